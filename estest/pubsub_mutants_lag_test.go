package estest_test

import (
	"context"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
)

// Lag is what the subscription in memory says, unless the mutant says otherwise. One that comes from elsewhere has none.
func (s *brokenSubscription) Lag(ctx context.Context) (es.Lag, error) {
	if s.lag != nil {
		return s.lag(ctx, s)
	}
	lagger, ok := s.sub.(es.Lagger)
	if !ok {
		return es.Lag{}, es.ErrUnsupported
	}
	return lagger.Lag(ctx)
}

// told is the lag as memory tells it, changed.
func told(change func(s *brokenSubscription, lag *es.Lag)) breakage {
	return breakage{lag: func(ctx context.Context, s *brokenSubscription) (es.Lag, error) {
		lag, err := s.sub.(es.Lagger).Lag(ctx) //nolint:errcheck // a subscription in memory is one
		change(s, &lag)
		return lag, err
	}}
}

func pubsubLagMutants() []pubsubMutant {
	received := func(s *brokenSubscription) int64 {
		s.mu.Lock()
		defer s.mu.Unlock()
		return int64(len(s.out))
	}
	return []pubsubMutant{
		{"P4/lag_counts_what_waits_and_what_is_in_flight", "leaves out what is in flight", told(func(s *brokenSubscription, lag *es.Lag) {
			lag.Messages -= min(received(s), lag.Messages)
		})},
		{"P4/lag_counts_what_waits_and_what_is_in_flight", "forgets what waits after a nack", breakage{
			nack: func(ctx context.Context, s *brokenSubscription, ds []es.Delivery, _ time.Duration) error {
				return s.sub.Ack(ctx, ds)
			},
		}},
		{"P4/lag_counts_what_waits_and_what_is_in_flight", "knows an oldest when there is none", told(func(_ *brokenSubscription, lag *es.Lag) {
			if lag.Messages == 0 {
				lag.Oldest = time.Now()
			}
		})},
		{"P4/lag_is_that_of_the_group", "counts what the member itself has had", breakage{
			lag: func(_ context.Context, s *brokenSubscription) (es.Lag, error) {
				return es.Lag{Messages: 3 - received(s)}, nil
			},
		}},
		{"P4/lag_tells_when_the_oldest_was_published", "tells when the newest was", told(func(_ *brokenSubscription, lag *es.Lag) {
			if lag.Messages > 0 {
				lag.Oldest = time.Now()
			}
		})},
		{"P4/lag_tells_when_the_oldest_was_published", "tells when the first of all was", breakage{
			lag: func() func(context.Context, *brokenSubscription) (es.Lag, error) {
				begin := time.Now()
				return func(context.Context, *brokenSubscription) (es.Lag, error) {
					return es.Lag{Messages: 1, Oldest: begin}, nil
				}
			}(),
		}},
		{"P4/lag_of_a_closed_subscription_is_closed", "says that there is nothing", breakage{
			lag: func(ctx context.Context, s *brokenSubscription) (es.Lag, error) {
				lag, _ := s.sub.(es.Lagger).Lag(ctx) //nolint:errcheck // that is what is wrong with it
				return lag, ctx.Err()
			},
		}},
		{"P4/lag_of_a_closed_subscription_is_closed", "does not look at its context", breakage{
			lag: func(_ context.Context, s *brokenSubscription) (es.Lag, error) {
				return s.sub.(es.Lagger).Lag(context.Background()) //nolint:errcheck // a subscription in memory is one
			},
		}},
	}
}
