package memory_test

import (
	"bytes"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"testing"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/memory"
)

// publishTo publishes a message to each topic.
func publishTo(t *testing.T, ps *memory.PubSub, topics ...string) {
	t.Helper()
	for _, topic := range topics {
		wantOK(t, ps.Publish(t.Context(), notes(topic, "a1")...))
	}
}

// wantTopics fails unless these are the topics that there are, in the order of their names.
func wantTopics(t *testing.T, ps *memory.PubSub, want ...string) {
	t.Helper()
	var got []string
	for _, stats := range ps.Stats() {
		got = append(got, stats.Topic)
	}
	if !slices.Equal(got, want) {
		t.Fatalf("the topics are %v, want %v", got, want)
	}
}

func TestPubSubBoundsTheTopicsThatHaveOnlyABacklog(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	ps := newPubSub(t, memory.PubSubConfig{BacklogTopics: 3, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	publishTo(t, ps, "a", "b", "c")
	if log.Len() > 0 {
		t.Errorf("logged %s", &log)
	}
	publishTo(t, ps, "a", "d", "e") // to publish once more makes a topic no younger
	wantTopics(t, ps, "c", "d", "e")
	if text := log.String(); !strings.Contains(text, "topic=a messages=2 limit=3") || strings.Count(text, "\n") != 2 {
		t.Errorf("logged %s", text)
	}

	sub, err := ps.Subscribe(t.Context(), "c", es.SubscribeOptions{})
	wantOK(t, err)
	receive(t, sub, 9, "a1")
	publishTo(t, ps, "f") // c is not counted any more
	wantTopics(t, ps, "c", "d", "e", "f")
	wantOK(t, sub.Close()) // now it is, as the youngest
	wantTopics(t, ps, "c", "e", "f")
	publishTo(t, ps, "e", "g")
	wantTopics(t, ps, "c", "f", "g")

	back, err := ps.Subscribe(t.Context(), "c", es.SubscribeOptions{})
	wantOK(t, err)
	receive(t, back, 9, "a1")
	again, err := ps.Subscribe(t.Context(), "a", es.SubscribeOptions{})
	wantOK(t, err)
	publishTo(t, ps, "a") // a new topic of an old name
	receive(t, again, 9, "a1")
}

func TestPubSubKeepsTopicsWithAnAbsentGroup(t *testing.T) {
	t.Parallel()
	ps := newPubSub(t, memory.PubSubConfig{BacklogTopics: 1})
	wantOK(t, subscribe(t, ps, es.SubscribeOptions{Group: "g"}).Close())
	publishTo(t, ps, orders, "x", "y", "z")
	wantTopics(t, ps, orders, "z")
	receive(t, subscribe(t, ps, es.SubscribeOptions{Group: "g"}), 9, "a1")
}

// TestPubSubKeepsNoTopicThatNobodyWants is for those who publish to names without end.
func TestPubSubKeepsNoTopicThatNobodyWants(t *testing.T) {
	t.Parallel()
	ps := newPubSub(t, memory.PubSubConfig{BacklogTopics: -1})
	publishTo(t, ps, "a", "b")
	wantTopics(t, ps)
	few := newPubSub(t, memory.PubSubConfig{})
	for n := range 3000 {
		publishTo(t, few, strconv.Itoa(n))
	}
	if n := len(few.Stats()); n != 1000 {
		t.Errorf("there are %d topics, want the thousand that is the default", n)
	}
}

// TestPubSubCountsABacklogThatNobodyWanted has a group that does not want the backlog, and goes.
func TestPubSubCountsABacklogThatNobodyWanted(t *testing.T) {
	t.Parallel()
	ps := newPubSub(t, memory.PubSubConfig{BacklogTopics: 1})
	publishTo(t, ps, orders)
	late := es.SubscribeOptions{Group: "late", Start: es.Start{Kind: es.StartEnd}}
	wantOK(t, subscribe(t, ps, late).Close())
	publishTo(t, ps, "x")
	wantTopics(t, ps, orders, "x") // of which one has a group
	wantOK(t, ps.DropGroup(orders, "late"))
	publishTo(t, ps, "y")
	wantTopics(t, ps, "y")
}
