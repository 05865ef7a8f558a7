//go:build !unix

package sqlite_test

import (
	"context"
	"errors"
)

// waitForEvents is for systems that tell what processor time a process has taken.
func waitForEvents(context.Context, *worker) error { return errors.ErrUnsupported }
