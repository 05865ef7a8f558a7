package router

// Stats tells what a route has done since it started, and what it has in hand. The counters rise when a handler has returned;
// a message that is delivered several times counts each time.
type Stats struct {
	// Topic and Name tell which route it is.
	Topic, Name string
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
	// InFlight is how many messages were received and are not answered; Parked is how many of them are busy ones that wait.
	InFlight, Parked int
}

// Stats returns the figures of each route, in the order in which the routes were added.
func (r *Router) Stats() []Stats {
	r.mu.Lock()
	routes := r.routes
	r.mu.Unlock()
	all := make([]Stats, len(routes))
	for i, rt := range routes {
		all[i] = rt.snapshot()
	}
	return all
}

func (rt *route) snapshot() Stats {
	rt.mu.Lock()
	defer rt.mu.Unlock()
	s := rt.stats
	s.Topic, s.Name = rt.topic, rt.name
	s.Parked = len(rt.parked) + rt.unparking
	s.InFlight = s.Parked
	for _, b := range rt.inHand {
		s.InFlight += b.left
	}
	return s
}
