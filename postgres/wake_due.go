package postgres

import "time"

// work is what there is to do.
type work struct {
	look     *look // for callers, or nil
	awaited  bool  // a look for those who wait
	poll     bool  // wake everybody
	connect  bool  // to listen
	listen   bool
	unlisten bool
	hangUp   bool
	notify   topic
}

// due returns what there is to do now, and takes it. It returns when there is more to do otherwise, or the zero time when that is not
// known. The mutex is held.
func (w *watch) due(now time.Time) (todo work, until time.Time) {
	come := func(at time.Time) bool {
		if !at.After(now) {
			return true
		}
		if until.IsZero() || at.Before(until) {
			until = at
		}
		return false
	}
	paced := w.paced.Add(-lookBurst * lookPace)
	backOff := w.looked.Add(w.backOff())
	if paced.After(backOff) {
		backOff = paced
	}
	awaited := w.waiting > 0 && w.db.eventsBell.awaited()
	switch {
	case w.next != nil && w.urgent, w.next != nil && come(paced):
		todo.look, w.next, w.urgent = w.next, nil, false
	case awaited && w.changed&eventsChanged != 0:
		todo.awaited = come(backOff)
	case awaited && w.db.events.tail.open():
		todo.awaited = come(w.looked.Add(max(w.backOff(), w.db.events.tail.patience(now))))
	}
	if todo.look != nil || todo.awaited {
		w.changed = 0
	}
	if w.waiting > 0 {
		todo.poll = come(w.polled.Add(w.interval))
		todo.connect = w.line == nil && come(backOff)
		todo.listen = w.line != nil && !w.line.listening && !w.line.deaf
	}
	if w.untold != 0 && come(w.notified.Add(w.noticePace())) {
		todo.notify, w.untold = w.untold, 0
	}
	if w.waiting == 0 && w.line != nil {
		todo.unlisten = w.line.listening && come(w.waited.Add(linger))
		todo.hangUp = come(w.used.Add(w.keep))
	}
	return todo, until
}

// backOff is the time from a look that has failed to the next one that nobody has asked for.
func (w *watch) backOff() time.Duration {
	if w.failed == 0 {
		return 0
	}
	return min(slowPoll, 10*time.Millisecond<<min(w.failed, 10))
}

// noticePace is the time from one notification to the next: no more than others would wait without.
func (w *watch) noticePace() time.Duration {
	pace := quietPace
	if w.heeded {
		pace = notifyPace
	}
	return min(pace, w.db.config.PollInterval)
}
