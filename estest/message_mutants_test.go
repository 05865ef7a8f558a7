package estest_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/estest"
)

func TestMessageMutants(t *testing.T) {
	hunt(t, estest.MessageLines(), messageMutants())
}

// TestMessageMutantHarness runs the lines on a hop with nothing broken.
func TestMessageMutantHarness(t *testing.T) {
	estest.RunMessage(t, hops{})
}

// hops is a harness of hops that are queues, and that do with a message what they should not.
type hops struct {
	estest.Minimal
	keep   func(m *es.Message) *es.Message // what is kept of a message; a copy
	check  func(m *es.Message) error       // what is turned down; what breaks a rule
	early  bool                            // keeps messages before it looks at them
	stack  bool                            // gives the last message first
	shared bool                            // has one queue for all namespaces
}

func (hops) Namespaces() bool { return true }

func (h hops) New(testing.TB) estest.Storage[estest.Hop] {
	return &hopQueues{hops: h, queues: map[string]*hopQueue{}}
}

type hopQueues struct {
	hops   hops
	queues map[string]*hopQueue
}

func (s *hopQueues) Open(_ testing.TB, namespace string) estest.Hop {
	if s.hops.shared {
		namespace = ""
	}
	if s.queues[namespace] == nil {
		s.queues[namespace] = &hopQueue{hops: s.hops}
	}
	return s.queues[namespace]
}

func (*hopQueues) Close(testing.TB, estest.Hop) error { return nil }
func (*hopQueues) Crash(testing.TB, estest.Hop)       {}
func (*hopQueues) Address() string                    { return "" }

type hopQueue struct {
	hops
	mu   sync.Mutex
	msgs []*es.Message
}

func (q *hopQueue) Put(_ context.Context, msgs ...*es.Message) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	check, keep := q.check, q.keep
	if check == nil {
		check = func(m *es.Message) error { return m.Validate(es.Limits{}) }
	}
	if keep == nil {
		keep = kept
	}
	if q.early {
		q.msgs = append(q.msgs, msgs...)
	}
	for _, m := range msgs {
		if err := check(m); err != nil {
			return err
		}
	}
	for _, m := range msgs {
		if !q.early {
			q.msgs = append(q.msgs, keep(m))
		}
	}
	return nil
}

// kept is what should be kept of a message.
func kept(m *es.Message) *es.Message {
	c := m.Clone()
	c.Time = es.Timestamp(m.Time)
	return c
}

func (q *hopQueue) Take(_ context.Context, n int) ([]*es.Message, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.msgs) < n {
		return nil, fmt.Errorf("there are %d messages, and no more will come", len(q.msgs))
	}
	taken := q.msgs[:n:n]
	q.msgs = q.msgs[n:]
	if q.stack {
		for i, j := 0, n-1; i < j; i, j = i+1, j-1 {
			taken[i], taken[j] = taken[j], taken[i]
		}
	}
	return taken, nil
}

func messageMutants() []mutant[estest.Harness[estest.Hop]] {
	type hopMutant = mutant[estest.Harness[estest.Hop]]
	keeping := func(line, name string, change func(m *es.Message)) hopMutant {
		return hopMutant{line, name, hops{keep: func(m *es.Message) *es.Message { return altered(kept(m), change) }}}
	}
	accepting := func(line, name string) hopMutant {
		return hopMutant{line, name, hops{check: func(*es.Message) error { return nil }}}
	}
	return []hopMutant{
		keeping("M2/all_fields_survive", "drops the causation ID", func(m *es.Message) { m.CausationID = "" }),
		keeping("M2/all_fields_survive", "sorts the tags", func(m *es.Message) {
			if len(m.Tags) > 1 && m.Tags[0] > m.Tags[len(m.Tags)-1] {
				m.Tags[0], m.Tags[len(m.Tags)-1] = m.Tags[len(m.Tags)-1], m.Tags[0]
			}
		}),
		keeping("M2/all_fields_survive", "has every schema be 1", func(m *es.Message) { m.Schema = 1 }),
		keeping("M2/any_bytes_survive", "keeps data as a JSON value", func(m *es.Message) {
			var compact bytes.Buffer
			if json.Compact(&compact, m.Data) == nil {
				m.Data = compact.Bytes()
			}
		}),
		keeping("M2/any_bytes_survive", "keeps data as text", func(m *es.Message) { m.Data = bytes.ToValidUTF8(m.Data, []byte("\ufffd")) }),
		keeping("M2/a_mebibyte_survives", "cuts data after 64 KiB", func(m *es.Message) { m.Data = m.Data[:min(len(m.Data), 64<<10)] }),
		keeping("M2/any_text_survives", "trims metadata", func(m *es.Message) {
			for key, value := range m.Metadata {
				m.Metadata[key] = strings.TrimSpace(value)
			}
		}),
		keeping("M2/any_text_survives", "joins tags with commas", func(m *es.Message) {
			if len(m.Tags) > 0 {
				m.Tags = strings.Split(strings.Join(m.Tags, ","), ",")
			}
		}),
		accepting("M2/what_is_not_text_is_invalid", "takes any bytes for text"),
		{"M2/what_is_not_text_is_invalid", "writes before it looks", hops{early: true}},
		accepting("M2/broken_rules_are_invalid", "has no rules"),
		{"M2/broken_rules_are_invalid", "writes before it looks", hops{early: true}},
		keeping("M2/nil_and_empty_are_the_same", "makes a NULL of no data", func(m *es.Message) {
			if m.Data == nil {
				m.Data = []byte("null")
			}
		}),
		keeping("M2/times_are_utc_in_microseconds", "keeps milliseconds", func(m *es.Message) { m.Time = m.Time.Truncate(time.Millisecond) }),
		{"M2/times_are_utc_in_microseconds", "rounds up", hops{keep: func(m *es.Message) *es.Message {
			return altered(m, func(m *es.Message) { m.Time = m.Time.UTC().Round(time.Microsecond) })
		}}},
		{"M2/times_are_utc_in_microseconds", "keeps the zone", hops{keep: (*es.Message).Clone}},
		{"M2/order_survives", "gives the last message first", hops{stack: true}},
		keeping("M3/any_stream_name_survives", "does not tell capitals", func(m *es.Message) { m.Stream = strings.ToLower(m.Stream) }),
		accepting("M3/broken_stream_names_are_invalid", "takes any stream"),
		{"M3/namespaces_are_apart", "has one queue for all namespaces", hops{shared: true}},
		{"M5/the_caller_may_reuse_its_message", "keeps the caller's own message", hops{keep: func(m *es.Message) *es.Message { return m }}},
		{"M5/the_caller_may_reuse_its_message", "keeps the caller's own bytes", hops{keep: func(m *es.Message) *es.Message {
			c := *m
			return &c
		}}},
		{"M5/the_callers_message_is_left_alone", "numbers the caller's message", hops{keep: func(m *es.Message) *es.Message {
			m.Version = 1
			return m.Clone()
		}}},
	}
}
