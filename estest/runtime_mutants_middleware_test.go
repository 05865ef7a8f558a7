package estest_test

import (
	"context"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/estest"
	"github.com/eventsourcing-go/eventsourcing/middleware"
)

func runtimeMiddlewareMutants() []runtimeMutant {
	missing := func(line string, replace func(p *estest.Parts)) runtimeMutant {
		return runtimeMutant{line, "does nothing", brokenParts(replace)}
	}
	return []runtimeMutant{
		missing("R9/timeout_ends_the_context_of_a_handler", func(p *estest.Parts) {
			p.Timeout = func(middleware.TimeoutConfig) es.Middleware { return asItIs }
		}),
		missing("R9/throttle_holds_its_rate", func(p *estest.Parts) {
			p.Throttle = func(middleware.ThrottleConfig) es.Middleware { return asItIs }
		}),
		missing("R9/circuit_breaker_spares_the_attempts", func(p *estest.Parts) {
			p.Breaker = func(middleware.BreakerConfig) es.Middleware { return asItIs }
		}),
		{
			"R9/circuit_breaker_spares_the_attempts", "takes an open circuit for a failure",
			brokenParts(func(p *estest.Parts) { p.Breaker = failingBreaker }),
		},
		missing("R9/metrics_tell_the_outcomes_apart", func(p *estest.Parts) {
			p.Metrics = func(middleware.MetricsConfig) es.Middleware { return asItIs }
		}),
		missing("R9/logging_has_a_level_for_each_outcome", func(p *estest.Parts) {
			p.Logging = func(middleware.LoggingConfig) es.Middleware { return asItIs }
		}),
		missing("R9/correlation_passes_metadata_on", func(p *estest.Parts) {
			p.Correlation = func(middleware.CorrelationConfig) es.Middleware { return asItIs }
		}),
		{
			"R9/correlation_passes_metadata_on", "passes all of it on",
			brokenParts(func(p *estest.Parts) {
				p.Correlation = func(c middleware.CorrelationConfig) es.Middleware {
					c.Metadata = append(c.Metadata, "secret")
					return middleware.Correlation(c)
				}
			}),
		},
		missing("R9/dead_letter_has_a_stream_of_its_own", func(p *estest.Parts) {
			p.DeadLetter = func(middleware.DeadLetterConfig) es.Middleware { return asItIs }
		}),
	}
}

// failingBreaker makes a plain failure of what an open circuit turns away.
func failingBreaker(c middleware.BreakerConfig) es.Middleware {
	breaker := middleware.CircuitBreaker(c)
	return func(next es.Handler) es.Handler {
		inner := breaker(next)
		return es.HandlerFunc(func(ctx context.Context, d *es.Delivery) ([]*es.Message, error) {
			outputs, err := inner.Handle(ctx, d)
			if verdict, _ := es.Judge(err); verdict == es.VerdictBusy {
				return nil, errBroken
			}
			return outputs, err
		})
	}
}
