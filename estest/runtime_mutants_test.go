package estest_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/estest"
	"github.com/eventsourcing-go/eventsourcing/memory"
	"github.com/eventsourcing-go/eventsourcing/router"
)

func TestRuntimeMutants(t *testing.T) {
	t.Parallel()
	var mutants []mutant[estest.Harness[es.Backend]]
	for _, m := range runtimeMutants() {
		mutants = append(mutants, mutant[estest.Harness[es.Backend]]{m.line, m.name, runtimeMutantHarness{runtimeBreakage: m.runtimeBreakage}})
	}
	hunt(t, estest.RuntimeLines(), mutants)
}

func runtimeMutants() []runtimeMutant {
	return slices.Concat(
		runtimeBrokerMutants(),
		runtimeRouteMutants(),
		runtimeOutputMutants(),
		runtimeRetryMutants(),
		runtimeDeadLetterMutants(),
		runtimeReplayMutants(),
		runtimeDedupeMutants(),
		runtimeStopMutants(),
		runtimeMiddlewareMutants(),
		runtimeCrashMutants(),
		runtimeFailureMutants(),
		runtimeProcessorMutants(),
		runtimeDrainMutants(),
		runtimeCommandMutants(),
		runtimeServerMutants(),
	)
}

// TestRuntimeUnbroken holds the harness of the mutants, without a mutant in it, to the lines with as little patience as the mutants
// get, as TestPubSubUnbroken does.
func TestRuntimeUnbroken(t *testing.T) {
	t.Parallel()
	for _, line := range estest.RuntimeLines() {
		t.Run(line.Name, func(t *testing.T) {
			t.Parallel()
			var verdict *standIn
			for range 5 { // one run that passes shows that there is time enough; a busy machine may spoil others
				verdict = try(t, line, estest.Harness[es.Backend](runtimeMutantHarness{}))
				if !verdict.failed {
					return
				}
			}
			t.Fatal(verdict.log())
		})
	}
}

type runtimeMutant struct {
	line, name string
	runtimeBreakage
}

// runtimeBreakage is what a program of a mutant has that is wrong. What is nil is not broken.
type runtimeBreakage struct {
	// broker is what is wrong with the broker, which is the one in memory.
	broker breakage
	// parts replaces parts of the program.
	parts func(p *estest.Parts)
	// backend is what is wrong with the backend.
	backend func(b es.Backend) es.Backend
}

// runtimeMutantHarness opens backends in memory, and a broker in memory beside them.
type runtimeMutantHarness struct {
	estest.Minimal
	runtimeBreakage
}

var _ estest.PartsHarness = runtimeMutantHarness{}

func (runtimeMutantHarness) Namespaces() bool { return true }
func (runtimeMutantHarness) Handles() bool    { return true }
func (runtimeMutantHarness) Durable() bool    { return true }

func (h runtimeMutantHarness) New(testing.TB) estest.Storage[es.Backend] {
	return runtimeMutantStorage{memory.NewStorage(), h.backend}
}

func (h runtimeMutantHarness) Parts(t testing.TB) estest.Parts {
	t.Helper()
	whole := openMemoryPubSub(t, memory.PubSubConfig{})
	parts := estest.Parts{Broker: func(t testing.TB, _ es.Backend, _ time.Duration) estest.Broker {
		t.Helper()
		view, err := whole.Namespace(estest.Namespace)
		if err != nil {
			t.Fatalf("Namespace: %v", err)
		}
		return estest.Broker{PubSub: &brokenPubSub{breakage: h.broker, t: t, ps: view}}
	}}
	if h.parts != nil {
		h.parts(&parts)
	}
	return parts
}

type runtimeMutantStorage struct {
	storage *memory.Storage
	wrap    func(es.Backend) es.Backend
}

func (s runtimeMutantStorage) Open(t testing.TB, namespace string) es.Backend {
	t.Helper()
	var b es.Backend
	b, err := memory.Open(memory.Config{Storage: s.storage, Namespace: namespace})
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	t.Cleanup(func() { _ = b.Close() })
	if s.wrap != nil {
		return s.wrap(b)
	}
	return b
}

func (runtimeMutantStorage) Close(_ testing.TB, b es.Backend) error { return b.Close() }
func (runtimeMutantStorage) Crash(testing.TB, es.Backend)           {}
func (runtimeMutantStorage) Address() string                        { return "" }

// brokenBroker is a broker that does some things wrong.
func brokenBroker(b breakage) runtimeBreakage { return runtimeBreakage{broker: b} }

// brokenParts are programs with a part that is wrong.
func brokenParts(replace func(p *estest.Parts)) runtimeBreakage {
	return runtimeBreakage{parts: replace}
}

// brokenConfig are programs whose routers have another configuration than they were given.
func brokenConfig(change func(c *router.Config)) runtimeBreakage {
	return brokenParts(func(p *estest.Parts) {
		p.Router = func(c router.Config) (estest.Router, error) {
			change(&c)
			return router.New(c)
		}
	})
}

// brokenRoute are programs whose routes have other options than they were given.
func brokenRoute(change func(o *router.Options)) runtimeBreakage {
	return brokenRouter(brokenRouterCalls{options: change})
}

// brokenHandler are programs whose handlers have something around them, inside of all middleware.
func brokenHandler(around func(c router.Config, next es.Handler) es.HandlerFunc) runtimeBreakage {
	return brokenRouter(brokenRouterCalls{handler: around})
}

// brokenRouterCalls is what a router does wrong. What is nil is not broken.
type brokenRouterCalls struct {
	use     func(r *router.Router, middleware []es.Middleware) error
	options func(o *router.Options)
	handler func(c router.Config, next es.Handler) es.HandlerFunc
	stop    func(ctx context.Context, r *router.Router) error
	stats   func(s *router.Stats)
}

func brokenRouter(calls brokenRouterCalls) runtimeBreakage {
	return brokenParts(func(p *estest.Parts) {
		p.Router = func(c router.Config) (estest.Router, error) {
			r, err := router.New(c)
			return &routerWithFaults{r, c, calls}, err
		}
	})
}

type routerWithFaults struct {
	*router.Router

	config router.Config
	broken brokenRouterCalls
}

func (r *routerWithFaults) Use(middleware ...es.Middleware) error {
	if r.broken.use != nil {
		return r.broken.use(r.Router, middleware)
	}
	return r.Router.Use(middleware...)
}

func (r *routerWithFaults) Route(topic string, h es.Handler, o router.Options) error {
	if r.broken.options != nil {
		r.broken.options(&o)
	}
	if r.broken.handler != nil {
		h = r.broken.handler(r.config, h)
	}
	return r.Router.Route(topic, h, o)
}

func (r *routerWithFaults) Stop(ctx context.Context) error {
	if r.broken.stop != nil {
		return r.broken.stop(ctx, r.Router)
	}
	return r.Router.Stop(ctx)
}

func (r *routerWithFaults) Stats() []router.Stats {
	all := r.Router.Stats()
	if r.broken.stats != nil {
		for i := range all {
			r.broken.stats(&all[i])
		}
	}
	return all
}

// errBroken is the error of mutants that fail where they should not.
var errBroken = errors.New("broken")

// messageKey is an ordering key by which each message stands alone.
func messageKey(m *es.Message) string { return m.ID.String() }
