//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package pgserver

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"
)

var errNoServer = fmt.Errorf("pgserver: a private server on this system: %w; "+
	"for tests, name a server in ES_TEST_POSTGRES_URL", errors.ErrUnsupported)

type account struct{ name string }

func accountFor(Config) (account, error) { return account{}, errNoServer }
func (account) give(string) error        { return errNoServer }
func (account) mayFill(string) error     { return errNoServer }
func (account) mayEnter(string) error    { return errNoServer }
func lockNow(*os.File) (bool, error)     { return false, errNoServer }

type guard struct{}

func startGuard(context.Context, account, *os.File, string, []string) (*guard, error) {
	return nil, errNoServer
}
func (*guard) endedWithin(time.Duration) (bool, error) { return false, errNoServer }
func (*guard) wait(context.Context) (int, error)       { return 0, errNoServer }
func (*guard) leave() error                            { return errNoServer }
func (*guard) close() error                            { return errNoServer }
func (*guard) shutdown() error                         { return errNoServer }
func (*guard) kill() error                             { return errNoServer }
func (*guard) freeze() ([]int, error)                  { return nil, errNoServer }
func (*guard) freezeAll([]int) error                   { return errNoServer }
func (*guard) thaw([]int) error                        { return errNoServer }
