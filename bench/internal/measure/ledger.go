package measure

import (
	"fmt"
	"strings"
)

// Faults is what a contender did wrong.
type Faults struct {
	// Lost messages never came, or were not acknowledged.
	Lost int64
	// Repeated ones came again although they had been handled.
	Repeated int64
	// Reordered ones came after a later one of their key.
	Reordered int64
}

// Any tells whether there are any.
func (f Faults) Any() bool { return f != Faults{} }

// Plus adds up.
func (f Faults) Plus(g Faults) Faults {
	return Faults{Lost: f.Lost + g.Lost, Repeated: f.Repeated + g.Repeated, Reordered: f.Reordered + g.Reordered}
}

func (f Faults) String() string {
	var parts []string
	for _, part := range []struct {
		count int64
		what  string
	}{{f.Lost, "lost"}, {f.Repeated, "handled twice"}, {f.Reordered, "out of order"}} {
		if part.count > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", part.count, part.what))
		}
	}
	if parts == nil {
		return "none"
	}
	return strings.Join(parts, ", ")
}

// Ledger checks that the messages 0 to n-1 come once each, and in order within their key, where message i has key i modulo the
// number of keys. It costs a few nanoseconds a message while all is well. It is for one goroutine at a time.
type Ledger struct {
	next []uint64 // by key: the message that is due
	// skipped has a bit for each message that was due when a later one of its key came.
	skipped []uint64
	total   uint64
	taken   int64
	faults  Faults
}

// NewLedger makes a ledger for n messages.
func NewLedger(n, keys int) *Ledger {
	l := &Ledger{next: make([]uint64, keys), skipped: make([]uint64, n/64+1), total: uint64(n)} //nolint:gosec // n is a count
	for i := range l.next {
		l.next[i] = uint64(i)
	}
	return l
}

// Take says that a message was handled.
func (l *Ledger) Take(message uint64) {
	keys := uint64(len(l.next))
	next := &l.next[message%keys]
	if message == *next && message < l.total {
		*next += keys
		l.taken++
		return
	}
	l.takeOutOfTurn(message, next)
}

func (l *Ledger) takeOutOfTurn(message uint64, next *uint64) {
	keys := uint64(len(l.next))
	switch {
	case message >= l.total:
		l.faults.Repeated++ // nobody sent it
	case message > *next:
		for missed := *next; missed < message; missed += keys {
			l.skipped[missed/64] |= 1 << (missed % 64)
		}
		*next = message + keys
		l.taken++
	case l.skipped[message/64]&(1<<(message%64)) != 0:
		l.skipped[message/64] &^= 1 << (message % 64)
		l.faults.Reordered++
		l.taken++
	default:
		l.faults.Repeated++
	}
}

// Taken is how many different messages came so far.
func (l *Ledger) Taken() int64 { return l.taken }

// Close returns the faults, when everything has come that will.
func (l *Ledger) Close() Faults {
	faults := l.faults
	faults.Lost = int64(l.total) - l.taken //nolint:gosec // a count
	return faults
}
