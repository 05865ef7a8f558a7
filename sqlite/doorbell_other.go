//go:build !linux

package sqlite

import "errors"

// doorbell would wake a goroutine when another handle has committed. Here there is none, and who waits looks time and again.
type doorbell struct{}

func openDoorbell(string, func()) (*doorbell, error) {
	return nil, errors.New("there is no doorbell on this system")
}

func (*doorbell) on() error    { return nil }
func (*doorbell) off()         {}
func (*doorbell) close() error { return nil }
