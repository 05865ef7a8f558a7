package memory

import (
	"context"
	"slices"
	"time"
)

// receiver is a Receive that waits.
type receiver struct {
	wake  chan struct{} // has room for one signal
	woken bool          // there is a signal on its way
	timer *time.Timer
}

// leave ends the waiting of a receiver. A signal that it has got is for another.
func (s *subscription) leave(r *receiver) {
	s.topic.mu.Lock()
	defer s.topic.unlock()
	s.group.unguard(r)
	s.dismiss(r)
	s.group.notify()
}

// wait waits for a signal, for the alarm when it is above 0, or for the end of the context.
func (r *receiver) wait(ctx context.Context, alarm time.Duration) error {
	var expired <-chan time.Time
	if alarm > 0 {
		if r.timer == nil {
			r.timer = time.NewTimer(alarm)
		} else {
			r.timer.Reset(alarm)
		}
		defer r.timer.Stop()
		expired = r.timer.C
	}
	select {
	case <-r.wake:
	case <-expired:
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

// signal wakes the receiver. It may be awake already, because of the alarm, and find the signal when it waits again: it then looks
// once more than it had to.
func (r *receiver) signal() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// watch makes a receiver the one that wakes for what time brings next, unless another does already, and returns how long it
// may wait; 0 for as long as it gets no signal.
func (g *consumerGroup) watch(r *receiver, clock int64) time.Duration {
	next := g.nextChange()
	if next >= g.alarm {
		return 0
	}
	g.alarm, g.guard = next, r
	return max(time.Duration(next-clock), 1)
}

// unguard is for a receiver that does not wait at the moment.
func (g *consumerGroup) unguard(r *receiver) {
	if g.guard == r {
		g.alarm, g.guard = never, nil
	}
	if r.woken {
		r.woken = false
		select {
		case <-r.wake:
		default: // it has woken by it
		}
	}
}

// dismiss takes a receiver, if it is one, out of those that wait.
func (s *subscription) dismiss(r *receiver) {
	if r == nil {
		return
	}
	s.spare = r
	g := s.group
	i := slices.Index(g.receivers, r)
	g.receivers = slices.Delete(g.receivers, i, i+1)
}

// notify wakes a receiver when there is something for it: messages, or a time to watch for that nobody watches for. One is
// enough: it wakes the next when it leaves something.
func (g *consumerGroup) notify() {
	if len(g.receivers) == 0 {
		return
	}
	available := g.inFlight < g.topic.space.config.Buffer && (g.readyKeys.count > 0 || g.fresh() > 0)
	if !available && g.nextChange() >= g.alarm {
		return
	}
	// The last to come is the first to be woken: the one who watches the time is likely to be another.
	for _, r := range slices.Backward(g.receivers) {
		if !r.woken {
			g.topic.call(r)
			return
		}
	}
}
