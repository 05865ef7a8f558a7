package router

import (
	"context"
	"errors"
	"fmt"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
)

// RouteLag is how far a route is behind: what its group has still to handle, its replays among the rest.
type RouteLag struct {
	es.Lag

	Topic, Name string
}

// Lags returns how far each route is behind that runs and whose subscription can tell ([es.Lagger]), in the order in which the routes
// were added. The group of a route that is paused or stopped is not known here; another process that runs it can tell. When some
// cannot be asked the error says why, and the others are there.
func (r *Router) Lags(ctx context.Context) ([]RouteLag, error) {
	var lags []RouteLag
	var errs []error
	for _, l := range r.working() {
		lag, known, err := l.lag(ctx)
		switch {
		case err != nil && !r.works(l): // it was asked while it was paused or stopped
		case err != nil:
			errs = append(errs, fmt.Errorf("route %q of topic %q: %w", l.name, l.topic, err))
		case known:
			lags = append(lags, RouteLag{Lag: lag, Topic: l.topic, Name: l.name})
		}
	}
	return lags, errors.Join(errs...)
}

// lag adds up what the subscriptions of a lane tell.
func (l *lane) lag(ctx context.Context) (sum es.Lag, known bool, _ error) {
	for _, in := range l.intakes {
		lagger, ok := in.sub.(es.Lagger)
		if !ok {
			continue
		}
		lag, err := lagger.Lag(ctx)
		if err != nil {
			return es.Lag{}, false, fmt.Errorf("lag: %w", err)
		}
		known = true
		sum.Messages += lag.Messages
		if !lag.Oldest.IsZero() && (sum.Oldest.IsZero() || lag.Oldest.Before(sum.Oldest)) {
			sum.Oldest = lag.Oldest
		}
	}
	return sum, known, nil
}

// tooFarBehind says when a lane lags more than it may.
func (l *lane) tooFarBehind(ctx context.Context) error {
	if l.opts.MaxLag == 0 && l.opts.MaxAge == 0 {
		return nil
	}
	lag, _, err := l.lag(ctx)
	if err != nil {
		return err
	}
	if l.opts.MaxLag > 0 && lag.Messages > l.opts.MaxLag {
		return fmt.Errorf("it is %d messages behind, more than %d", lag.Messages, l.opts.MaxLag)
	}
	if l.opts.MaxAge == 0 || lag.Oldest.IsZero() {
		return nil
	}
	if age := time.Since(lag.Oldest); age > l.opts.MaxAge {
		return fmt.Errorf("it is %v behind, more than %v", age.Round(time.Millisecond), l.opts.MaxAge)
	}
	return nil
}
