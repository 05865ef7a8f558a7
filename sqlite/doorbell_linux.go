package sqlite

import (
	"errors"
	"os"
	"sync/atomic"
	"syscall"
)

// doorbell wakes a goroutine when another handle has committed: who commits writes a few bytes to a file beside the database, and the
// system tells those who watch that file (inotify(7)). So nobody has to look time and again.
type doorbell struct {
	events *os.File      // of inotify
	path   string        // of what is watched
	watch  int           // the number of the watch, below 0 when there is none
	closed atomic.Bool   // the goroutine is to end
	ended  chan struct{} // closed when it has
}

// openDoorbell has rung called whenever the file is written to while the doorbell is on. It fails where the system has no more watches
// to give.
func openDoorbell(path string, rung func()) (*doorbell, error) {
	fd, err := syscall.InotifyInit1(syscall.IN_NONBLOCK | syscall.IN_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("inotify_init1", err)
	}
	d := &doorbell{events: os.NewFile(uintptr(fd), "inotify"), path: path, watch: -1, ended: make(chan struct{})}
	go d.listen(rung)
	return d, nil
}

func (d *doorbell) listen(rung func()) {
	defer close(d.ended)
	events := make([]byte, 4096)
	for {
		_, err := d.events.Read(events)
		switch {
		case d.closed.Load():
			return
		case errors.Is(err, os.ErrClosed):
			return
		}
		rung()
	}
}

// on begins to watch, and off ends it: while nobody waits, commits are to wake nobody.
func (d *doorbell) on() error {
	if d.watch >= 0 {
		return nil
	}
	watch, err := d.control(func(fd int) (int, error) { return syscall.InotifyAddWatch(fd, d.path, syscall.IN_MODIFY) })
	if err == nil {
		d.watch = watch
	}
	return err
}

func (d *doorbell) off() {
	if d.watch < 0 {
		return
	}
	_, _ = d.control(func(fd int) (int, error) { // it fails only for a watch that is gone
		return syscall.InotifyRmWatch(fd, uint32(d.watch)) //nolint:gosec // not negative
	})
	d.watch = -1
}

// control has do use the descriptor of inotify.
func (d *doorbell) control(do func(fd int) (int, error)) (n int, err error) {
	raw, err := d.events.SyscallConn()
	if err != nil {
		return -1, err
	}
	failed := raw.Control(func(fd uintptr) { n, err = do(int(fd)) })
	return n, errors.Join(failed, err)
}

func (d *doorbell) close() error {
	d.closed.Store(true)
	err := d.events.Close()
	<-d.ended
	return err
}
