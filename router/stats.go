package router

// State is what a route does.
type State string

// The states of a route.
const (
	// Waiting: its router was not started yet.
	Waiting State = "waiting"
	// Running: it handles messages.
	Running State = "running"
	// Paused: it begins with no message until [Router.Resume]. Handlers that were running may still be.
	Paused State = "paused"
	// Stopped: it was stopped, by [Router.StopRoute] or with its router. Handlers that were running may still be.
	Stopped State = "stopped"
)

// Stats tells what a route does and has done since its router started, over all of its starts, its replays among the rest. The
// counters rise when a handler has returned; a message that is delivered several times counts each time.
type Stats struct {
	// Topic and Name tell which route it is.
	Topic, Name string
	State       State
	// Handled messages were acknowledged because their handler succeeded, Skipped ones because it said [es.Skip].
	Handled, Skipped int64
	// Failed messages were put off to another attempt, Busy ones because somebody else is at them.
	Failed, Busy int64
	// Dead messages went to the dead stream.
	Dead int64
	// Released messages were given back without an attempt: behind one of their key that failed, or because of a stop.
	Released int64
	// Lost deliveries could not be answered, because their lease had ended or the subscription was closed.
	Lost int64
	// InFlight is how many messages were received and are not answered. Running is how many of them a handler is at, and Parked how
	// many are busy ones that wait.
	InFlight, Running, Parked int
}

// Stats returns the figures of each route, in the order in which the routes were added.
func (r *Router) Stats() []Stats {
	r.mu.Lock()
	all, lanes := make([]Stats, len(r.routes)), make([]*lane, len(r.routes))
	for i, rt := range r.routes {
		all[i] = rt.past
		all[i].Topic, all[i].Name, all[i].State = rt.topic, rt.name, rt.state
		lanes[i] = rt.lane
	}
	r.mu.Unlock()
	for i, l := range lanes {
		if l != nil {
			all[i].add(l.snapshot())
		}
	}
	return all
}

// add adds the figures of a lane.
func (s *Stats) add(other Stats) {
	s.Handled += other.Handled
	s.Skipped += other.Skipped
	s.Failed += other.Failed
	s.Busy += other.Busy
	s.Dead += other.Dead
	s.Released += other.Released
	s.Lost += other.Lost
	s.InFlight += other.InFlight
	s.Running += other.Running
	s.Parked += other.Parked
}

func (l *lane) snapshot() Stats {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.stats
	s.Running = l.running
	s.Parked = len(l.parked) + l.unparking
	s.InFlight = s.Parked
	for _, b := range l.inHand {
		s.InFlight += b.left
	}
	return s
}
