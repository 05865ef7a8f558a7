//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package pgserver

import (
	"errors"
	"syscall"
	"time"
)

// A process is one of the system.
type process struct {
	id, parent int
	state      byte // T is stopped by a signal
}

// freeze stops the server so that it starts no more children, and returns those that it has. They are in sessions of their own,
// so a signal to a group would not reach them.
func (g *guard) freeze() (children []int, err error) {
	if err := g.signal(syscall.SIGSTOP); err != nil {
		return nil, err
	}
	for {
		all, err := processes()
		if err != nil {
			return nil, err
		}
		running := false
		children = children[:0]
		for _, p := range all {
			switch {
			case p.id == g.server && p.state != 'T' && p.state != 'Z':
				running = true // the signal has not arrived
			case p.parent == g.server:
				children = append(children, p.id)
			}
		}
		if !running {
			return children, nil
		}
		// This is the only way to learn it: the guard is the parent, and a shell does not wait for children to stop.
		<-time.After(time.Millisecond)
	}
}

// freezeAll freezes the children too, which go on working when the server does not.
func (g *guard) freezeAll(children []int) error { return signalAll(children, syscall.SIGSTOP) }

// thaw lets the server and its children go on.
func (g *guard) thaw(children []int) error {
	return errors.Join(signalAll(children, syscall.SIGCONT), g.signal(syscall.SIGCONT))
}

func signalAll(processes []int, s syscall.Signal) error {
	for _, id := range processes {
		if err := signal(id, s); err != nil {
			return err
		}
	}
	return nil
}

// shutdown asks the server to end: a fast shutdown.
func (g *guard) shutdown() error { return g.signal(syscall.SIGINT) }

// kill ends the server and its children as kill -9 does.
func (g *guard) kill() error {
	children, err := g.freeze()
	if err != nil {
		return err
	}
	return signalAll(append(children, g.server), syscall.SIGKILL)
}
