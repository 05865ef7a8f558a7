package memory

import (
	"context"
	"errors"
	"testing"

	es "github.com/eventsourcing-go/eventsourcing"
)

// TestTopicIsNotDroppedWhenItIsWantedAfterAll has what may come between the decision to drop a topic and the deed.
func TestTopicIsNotDroppedWhenItIsWantedAfterAll(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		become func(ps *PubSub, t *topic) error
	}{
		{"a publisher that waited goes on", func(_ *PubSub, t *topic) error {
			t.queue = append(t.queue, &ticket{})
			return nil
		}},
		{"somebody subscribes", func(ps *PubSub, t *topic) error {
			_, err := ps.Subscribe(context.Background(), t.name, es.SubscribeOptions{})
			return err
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			ps, err := NewPubSub(PubSubConfig{})
			if err != nil {
				t.Fatal(err)
			}
			if err := ps.Publish(t.Context(), es.Publication{Topic: "x", Message: es.NewMessage("x-1", "Noted", nil)}); err != nil {
				t.Fatal(err)
			}
			unwanted := ps.space.unwanted.surplus(0)
			if unwanted == nil {
				t.Fatal("the topic is not among the unwanted ones")
			}
			if err := test.become(ps, unwanted); err != nil {
				t.Fatal(err)
			}
			if n, ok := ps.space.drop(unwanted); ok || ps.space.topic("x") != unwanted {
				t.Errorf("it was dropped, with %d messages", n)
			}
		})
	}
}

// TestPublishThatCloseOvertakesIsClosed has a pub/sub closed after a publication was found good, and before it is handed over: the
// room that the end of the subscriptions makes is not for it.
func TestPublishThatCloseOvertakesIsClosed(t *testing.T) {
	t.Parallel()
	whole, err := NewPubSub(PubSubConfig{Buffer: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer whole.Close()
	ps, err := whole.Namespace("one")
	if err != nil {
		t.Fatal(err)
	}
	pub := es.Publication{Topic: "x", Message: es.NewMessage("x-1", "Noted", nil)}
	if _, err := ps.Subscribe(t.Context(), "x", es.SubscribeOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := ps.Close(); err != nil {
		t.Fatal(err)
	}
	if n, err := ps.hand(t.Context(), "x", []es.Publication{pub}, nil); n != 0 || !errors.Is(err, es.ErrClosed) {
		t.Errorf("%d messages were taken, and the error is %v; want none, and %v", n, err, es.ErrClosed)
	}
	if n := len(ps.space.topics); n != 0 {
		t.Errorf("%d topics are left", n)
	}
}
