package workloads

import (
	"testing"

	es "github.com/eventsourcing-go/eventsourcing"
)

func TestFeedCountsWhatIsNotAcknowledgedOnce(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	f := newFeed(3)
	ds := make([]es.Delivery, 8)
	n, err := f.Receive(ctx, ds)
	if n != 3 || err != nil {
		t.Fatalf("received %d, %v", n, err)
	}
	for _, answer := range []error{f.Ack(ctx, ds[:1]), f.Ack(ctx, ds[:1]), f.Nack(ctx, ds[1:2], 0)} {
		if answer != nil {
			t.Fatal(answer)
		}
	}
	<-f.done
	if f.acked != 1 || f.wrong != 2 {
		t.Errorf("%d acknowledged and %d wrong, want 1 and 2", f.acked, f.wrong)
	}
}

func TestFeedDoesNotUseAMessageThatIsNotAnswered(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	f := newFeed(3 * feedRoom)
	ds := make([]es.Delivery, 2*feedRoom)
	n, err := f.Receive(ctx, ds)
	if n != feedRoom || err != nil {
		t.Fatalf("received %d, %v, want %d", n, err, feedRoom)
	}
	if err := f.Ack(ctx, ds[:10]); err != nil {
		t.Fatal(err)
	}
	if n, err := f.Receive(ctx, ds); n != 10 || err != nil {
		t.Errorf("received %d, %v, want the 10 that were acknowledged", n, err)
	}
}
