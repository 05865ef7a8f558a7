package middleware

import (
	"context"
	"maps"
	"testing"

	es "github.com/eventsourcing-go/eventsourcing"
)

// consequence handles d in a context that has it, as a router does, and returns a message that its handler made with es.Caused.
func consequence(t *testing.T, ctx context.Context, wrap es.Middleware, d *es.Delivery) *es.Message { //nolint:revive // t comes first
	t.Helper()
	next := es.NewMessage("parcel-1", "Sent", nil)
	_, err := wrap(es.HandlerFunc(func(ctx context.Context, _ *es.Delivery) ([]*es.Message, error) {
		es.Caused(ctx, next)
		return nil, nil
	})).Handle(es.WithDelivery(ctx, d), d)
	if err != nil {
		t.Fatal(err)
	}
	return next
}

func TestCorrelationFollowsTheConversation(t *testing.T) {
	t.Parallel()
	trace := map[string]string{"traceparent": "00-1-2-01", "tracestate": "a=b", "baggage": "c=d"}
	for name, test := range map[string]struct {
		config   CorrelationConfig
		metadata map[string]string
		passed   map[string]string
	}{
		"without metadata":       {CorrelationConfig{}, nil, nil},
		"without the keys":       {CorrelationConfig{}, map[string]string{"tenant": "acme"}, nil},
		"trace context":          {CorrelationConfig{}, maps.Clone(trace), trace},
		"nothing else":           {CorrelationConfig{}, map[string]string{"tenant": "acme", "baggage": "c=d"}, map[string]string{"baggage": "c=d"}},
		"an empty value":         {CorrelationConfig{}, map[string]string{"baggage": ""}, map[string]string{"baggage": ""}},
		"keys of one's own":      {CorrelationConfig{Metadata: []string{"tenant"}}, map[string]string{"tenant": "acme", "baggage": "c"}, map[string]string{"tenant": "acme"}},
		"no keys":                {CorrelationConfig{Metadata: []string{}}, trace, nil},
		"a key that is repeated": {CorrelationConfig{Metadata: []string{"a", "a"}}, map[string]string{"a": "b"}, map[string]string{"a": "b"}},
	} {
		for _, correlation := range []string{"", "conversation"} {
			t.Run(name+" "+correlation, func(t *testing.T) {
				t.Parallel()
				d := delivery(1)
				d.CorrelationID, d.Metadata = correlation, test.metadata
				next := consequence(t, t.Context(), Correlation(test.config), d)
				want := correlation
				if want == "" {
					want = d.ID.String()
				}
				if next.CorrelationID != want || next.CausationID != d.ID.String() {
					t.Errorf("correlation %q, causation %q; want %q, %s", next.CorrelationID, next.CausationID, want, d.ID)
				}
				if !maps.Equal(next.Metadata, test.passed) {
					t.Errorf("metadata %v was passed on, not %v", next.Metadata, test.passed)
				}
			})
		}
	}
}

// TestCorrelationKeepsWhatAnOuterOnePicked: and gives way to nothing that belongs to another message.
func TestCorrelationKeepsWhatAnOuterOnePicked(t *testing.T) {
	t.Parallel()
	d := delivery(1)
	d.Metadata = map[string]string{"tenant": "acme", "baggage": "c=d"}
	both := func(h es.Handler) es.Handler {
		return es.Chain(h, Correlation(CorrelationConfig{Metadata: []string{"tenant"}}), Correlation(CorrelationConfig{}))
	}
	ctx := es.WithOrigin(t.Context(), es.Origin{CorrelationID: "start", Metadata: map[string]string{"host": "here"}})
	next := consequence(t, ctx, both, d)
	if want := (map[string]string{"tenant": "acme", "baggage": "c=d"}); !maps.Equal(next.Metadata, want) {
		t.Errorf("metadata %v was passed on, not %v", next.Metadata, want)
	}
	if next.CorrelationID != d.ID.String() {
		t.Errorf("the correlation is %q, not the message's", next.CorrelationID)
	}
}

// TestCorrelationKeepsItsKeys: the configuration belongs to the caller again when the middleware is made.
func TestCorrelationKeepsItsKeys(t *testing.T) {
	t.Parallel()
	keys := []string{"tenant"}
	wrap := Correlation(CorrelationConfig{Metadata: keys})
	keys[0] = "other"
	d := delivery(1)
	d.Metadata = map[string]string{"tenant": "acme", "other": "x"}
	if next := consequence(t, t.Context(), wrap, d); next.Metadata["tenant"] != "acme" || len(next.Metadata) != 1 {
		t.Errorf("metadata %v was passed on", next.Metadata)
	}
}
