package sqlite_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/processor"
	"github.com/eventsourcing-go/eventsourcing/sqlite"
)

// publishedSpace is the namespace that has an event for each time that something was published.
const publishedSpace = "published"

// publication is what that event says.
type publication struct {
	Stream   string `json:"stream"`
	Number   int    `json:"number"`
	Version  int64  `json:"version"`
	Position int64  `json:"position"`
}

// TestKilledProcessors kills processors of one outbox, two at a time, again and again: before, in the middle of and after the calls by which
// they enqueue, claim, append, publish and complete. In the end each message is stored once, in the order in which it was enqueued, and
// was published at least once, in that order, always with the place that it has.
func TestKilledProcessors(t *testing.T) {
	t.Parallel()
	c := newCrash(t, newPath(t))
	last := c.killInPairs("process", "enqueue", "claim", "append", "publish", "complete")
	db := c.openFile("")
	c.wantNumbers("stored", c.readNumbers(db, topic), 2, last)
	c.wantEmptyOutbox(db)
	c.wantPublished(db, c.openFile(publishedSpace))
}

// TestKilledForwarders does the same to processors that append and complete in one commit.
func TestKilledForwarders(t *testing.T) {
	t.Parallel()
	c := newCrash(t, newPath(t))
	last := c.killInPairs("forward", "enqueue", "claim", "forward")
	db := c.openFile("")
	c.wantNumbers("stored", c.readNumbers(db, topic), 2, last)
	c.wantEmptyOutbox(db)
}

// killInPairs has two child processes do a job beside each other, each with messages of its own, and kills them in one of the calls, until
// enough were killed; then it lets the job be done. It returns the number of the last message in each stream.
func (c *crash) killInPairs(kind string, calls ...string) int {
	c.Helper()
	const perLife = 4
	jobs := []job{{Kind: kind, First: 1}, {Kind: kind, First: 1}}
	for last := perLife; ; last += perLife {
		enough := c.killed >= *kills
		for i := range jobs {
			jobs[i].Last, jobs[i].Moment = last, c.draw(calls...)
			if enough {
				jobs[i].Moment = moment{}
			}
		}
		for i, r := range c.runBeside(jobs...) {
			if slices.Contains(r.lines, "added") { // otherwise it is done again; what was added is not added twice
				jobs[i].First = last + 1
			}
		}
		if enough {
			return last
		}
	}
}

// wantPublished looks whether each event was published with its place, and nothing before something that it follows.
func (c *crash) wantPublished(db, published *sqlite.DB) {
	c.Helper()
	places := map[publication]bool{}
	for m, err := range db.Events().Read(c.Context(), es.Query{Category: topic}) {
		if err != nil {
			c.Fatal(err)
		}
		places[publication{m.Stream, numberOf(m), m.Version, m.Position}] = true
	}
	total, times, latest := 0, map[publication]int{}, map[string]int{}
	for m, err := range published.Events().Read(c.Context(), es.Query{}) {
		var p publication
		if err == nil {
			err = json.Unmarshal(m.Data, &p)
		}
		if err != nil {
			c.Fatal(err)
		}
		if !places[p] {
			c.Errorf("published was %+v, and that is not stored", p)
		}
		if p.Number > latest[p.Stream]+1 {
			c.Errorf("published was number %d of %s after number %d", p.Number, p.Stream, latest[p.Stream])
		}
		latest[p.Stream] = max(latest[p.Stream], p.Number)
		total++
		times[p]++
	}
	if len(times) != len(places) {
		c.Errorf("published were %d of the %d events", len(times), len(places))
	}
	c.Logf("%d events were published, %d times in all", len(times), total)
}

// processMessages and forwardMessages are jobs: they add messages to an outbox, and process what is in it until it is empty.
func processMessages(ctx context.Context, w *worker) error { return w.process(ctx, true) }

func forwardMessages(ctx context.Context, w *worker) error { return w.process(ctx, false) }

func (w *worker) process(ctx context.Context, publish bool) (err error) {
	db, err := sqlite.Open(sqlite.Config{Path: w.Path})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	published, err := sqlite.Open(sqlite.Config{Path: w.Path, Namespace: publishedSpace})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, published.Close()) }()
	for _, m := range w.numbers() {
		w.around("enqueue", func() { err = db.Outbox().Enqueue(ctx, m) })
		if err != nil {
			return err
		}
	}
	w.tell("added")

	outbox := mortalOutbox{db.Outbox(), w}
	config := processor.Config{
		Outbox: outbox, Events: mortalEvents{db.Events(), w}, Lease: lease, InHand: 3,
	}
	if publish {
		config.Publisher = mortalPublisher{published.Events(), w}
	} else {
		config.Outbox = mortalForwarder{outbox, db.Outbox()}
	}
	p, err := processor.NewAtLeastOnce(config)
	if err != nil {
		return err
	}
	if err := p.Start(ctx); err != nil {
		return err
	}
	if err := w.drain(ctx, db.Outbox()); err != nil {
		return err
	}
	return p.Stop(ctx)
}

// drain waits until an outbox is empty.
func (w *worker) drain(ctx context.Context, outbox es.Outbox) error {
	const others = 10 * time.Millisecond // nobody tells when other processes have emptied it
	for {
		if stats, err := outbox.Stats(ctx); err != nil || stats.Depth == 0 {
			return err
		}
		select {
		case <-w.passed:
		case <-time.After(others):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// mortalOutbox is an outbox in whose calls the process may die.
type mortalOutbox struct {
	es.Outbox

	w *worker
}

func (o mortalOutbox) Claim(ctx context.Context, dst []es.Entry, opts es.ClaimOptions) (n int, err error) {
	o.w.around("claim", func() { n, err = o.Outbox.Claim(ctx, dst, opts) })
	return n, err
}

func (o mortalOutbox) Complete(ctx context.Context, entries []es.Entry) (err error) {
	o.w.around("complete", func() { err = o.Outbox.Complete(ctx, entries) })
	return err
}

// mortalForwarder is one that forwards.
type mortalForwarder struct {
	mortalOutbox

	forwarder es.Outbox
}

func (o mortalForwarder) Forward(ctx context.Context, entries []es.Entry) (outcomes []es.Outcome) {
	forwarder, ok := o.forwarder.(es.Forwarder)
	if !ok {
		panic(fmt.Sprintf("%T is no Forwarder", o.forwarder))
	}
	o.w.around("forward", func() { outcomes = forwarder.Forward(ctx, entries) })
	return outcomes
}

type mortalEvents struct {
	es.EventStore

	w *worker
}

func (e mortalEvents) AppendEach(ctx context.Context, as []es.Append) (outcomes []es.Outcome) {
	e.w.around("append", func() { outcomes = e.EventStore.AppendEach(ctx, as) })
	return outcomes
}

func (e mortalEvents) Append(ctx context.Context, a es.Append) (done es.Appended, err error) {
	e.w.around("append", func() { done, err = e.EventStore.Append(ctx, a) })
	return done, err
}

// mortalPublisher is a publisher that keeps on record what it was told to publish.
type mortalPublisher struct {
	records es.EventStore
	w       *worker
}

func (p mortalPublisher) Publish(ctx context.Context, pubs ...es.Publication) (err error) {
	var records []*es.Message
	for _, pub := range pubs {
		m := pub.Message
		data, err := json.Marshal(publication{m.Stream, numberOf(m), m.Version, m.Position})
		if err != nil {
			return err
		}
		records = append(records, es.NewMessage("published", "Published", data))
	}
	p.w.around("publish", func() { _, err = p.records.Append(ctx, es.AppendTo("published", es.Any, records...)) })
	return err
}
