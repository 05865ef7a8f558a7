package sqlite_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/eventlog"
	"github.com/eventsourcing-go/eventsourcing/middleware"
	"github.com/eventsourcing-go/eventsourcing/router"
	"github.com/eventsourcing-go/eventsourcing/sqlite"
)

// countsModel is the read model that handlers keep: for each stream the numbers that had their effect, and a mark for each message.
const countsModel = "counts"

// TestKilledRouters kills routers of one group, two at a time, again and again: before, in the middle of and after a handler, and the calls by
// which messages are reserved and marked done and by which the group keeps its state. In the end each event has had its effect once,
// in the order of its stream; each time that one was handled its attempt was another.
func TestKilledRouters(t *testing.T) {
	t.Parallel()
	c := newCrash(t, newPath(t))
	last := c.killInPairs("handle", "append", "handle", "reserve", "mark", "commit")
	db := c.openFile("")
	c.wantNumbers("stored", c.readNumbers(db, topic), 2, last)
	c.wantNumbers("handled", c.readCounts(db), 2, last)
	c.wantAttempts()
	if dead := c.deadLetters(db); len(dead) != 0 {
		c.Errorf("dead letters: %v", dead)
	}
}

// TestMessagesThatKillTheirProcess has messages among others that kill whoever handles them. Each of them is tried as often as it may be,
// and then it is a dead letter. No other is, and each other has its effect once.
func TestMessagesThatKillTheirProcess(t *testing.T) {
	t.Parallel()
	c := newCrash(t, newPath(t))
	last := poisonEvery * (*kills/((poisonAttempts-1)*streamsPerChild) + 1) // those in hand beside the first lose an attempt by it
	for c.runBeside(job{Kind: "poison", First: 1, Last: last})[0].killed {
		if c.killed > last*streamsPerChild {
			c.Fatalf("%d processes were killed by %d messages", c.killed, last/poisonEvery*streamsPerChild)
		}
	}
	if c.killed < *kills {
		c.Errorf("%d processes were killed, want %d", c.killed, *kills)
	}
	db := c.openFile("")
	dead, handled := c.deadLetters(db), c.readCounts(db)
	for i := range streamsPerChild {
		stream := fmt.Sprintf("%s-0%d", topic, i)
		var want []int
		for n := 1; n <= last; n++ {
			attempts, isDead := dead[fmt.Sprintf("%s/%d", stream, n)]
			if isPoison := n%poisonEvery == 0; isDead != isPoison || isDead && attempts <= poisonAttempts {
				c.Errorf("number %d of %s is a dead letter: %v, after %d attempts", n, stream, isDead, attempts)
			} else if !isPoison {
				want = append(want, n)
			}
		}
		if fmt.Sprint(handled[stream]) != fmt.Sprint(want) {
			c.Errorf("of %s %v were handled, want %v", stream, handled[stream], want)
		}
	}
	c.wantAttempts()
}

// The messages that kill, and how often one is tried.
const (
	poisonEvery    = 5
	poisonAttempts = 3
)

// wantAttempts looks whether each handling of a message was another attempt.
func (c *crash) wantAttempts() {
	c.Helper()
	times, most := map[string]int{}, 0
	for _, line := range c.told {
		if handling, ok := strings.CutPrefix(line, "handling "); ok {
			if times[handling]++; times[handling] > 1 {
				c.Errorf("%s was handled %d times", handling, times[handling])
			}
			most++
		}
	}
	c.Logf("handlers were called %d times", most)
}

// readCounts reads the numbers that had their effect, by stream.
func (c *crash) readCounts(db *sqlite.DB) map[string][]int {
	c.Helper()
	counts, marks := map[string][]int{}, 0
	for i, err := range es.NewModel[[]int](db.ReadModels(), countsModel).All(c.Context(), "") {
		switch {
		case err != nil:
			c.Fatal(err)
		case strings.HasPrefix(i.Key, topic):
			counts[i.Key] = i.Value
		default:
			marks++
		}
	}
	for _, numbers := range counts {
		marks -= len(numbers)
	}
	if marks != 0 {
		c.Errorf("there are %d marks more than effects", marks)
	}
	return counts
}

// deadLetters reads how often each of the dead letters was tried.
func (c *crash) deadLetters(db *sqlite.DB) map[string]int {
	c.Helper()
	letters := map[string]int{}
	for m, err := range db.Events().Read(c.Context(), es.Query{Stream: "dead"}) {
		var letter es.DeadLetterRecord
		if err == nil {
			err = json.Unmarshal(m.Data, &letter)
		}
		if err != nil {
			c.Fatal(err)
		}
		letters[fmt.Sprintf("%s/%d", letter.Original.Stream, numberOf(letter.Original.Message()))] = letter.Attempts
	}
	return letters
}

// handleEvents and handlePoison are jobs: they append events, and have a router handle them, until all are handled.
func handleEvents(ctx context.Context, w *worker) error {
	const often = 1000 // so that nothing is given up that was only with processes that died
	return w.handle(ctx, often, func(int) bool { return false })
}

func handlePoison(ctx context.Context, w *worker) error {
	return w.handle(ctx, poisonAttempts, func(n int) bool { return n%poisonEvery == 0 })
}

func (w *worker) handle(ctx context.Context, attempts int, kills func(n int) bool) (err error) {
	db, err := sqlite.Open(sqlite.Config{Path: w.Path})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	for _, m := range w.numbers() {
		w.around("append", func() { _, err = db.Events().Append(ctx, es.AppendTo(m.Stream, es.Any, m)) })
		if err != nil {
			return err
		}
	}
	w.tell("added")

	log, err := eventlog.New(mortalBackend{db, w}, eventlog.Config{Lease: lease, Partitions: 4})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	r, err := router.New(router.Config{Subscriber: log, DeadLetter: router.ToPublisher(log), MaxAttempts: -1, NoReplays: true})
	if err != nil {
		return err
	}
	err = errors.Join(
		r.Use(
			middleware.Retry(middleware.RetryConfig{Attempts: attempts}),
			middleware.Dedupe(mortalDedupe{db.Dedupe(), w}, middleware.DedupeConfig{Lease: lease}),
			middleware.Recover(middleware.RecoverConfig{}),
		),
		r.Route(topic, es.HandlerFunc(func(ctx context.Context, d *es.Delivery) (_ []*es.Message, err error) {
			n := numberOf(d.Message)
			w.tell("handling", d.Stream, n, "as attempt", d.Attempt)
			if kills(n) {
				die()
			}
			w.around("handle", func() { err = count(ctx, db.ReadModels(), d, n) })
			return nil, err
		}), router.Options{Name: "counting", Concurrency: 2, Start: es.Start{Kind: es.StartBeginning}}),
		r.Start(ctx),
	)
	if err != nil {
		return err
	}
	head, err := db.Events().Head(ctx)
	if err == nil {
		err = log.WaitFor(ctx, topic, "counting", head)
	}
	return errors.Join(err, r.Stop(ctx))
}

// count is the effect of a message: its number behind the others of its stream. The mark that it had its effect is written with it, so
// that it has it once; dedupe cannot know when the process dies between the two.
func count(ctx context.Context, models es.ReadModels, d *es.Delivery, n int) error {
	mark := "had " + d.ID.String()
	docs, err := models.Load(ctx, countsModel, d.Stream, mark)
	if err != nil || docs[1].Revision != 0 {
		return err
	}
	var numbers []int
	if docs[0].Revision != 0 {
		if err := json.Unmarshal(docs[0].Data, &numbers); err != nil {
			return err
		}
	}
	data, err := json.Marshal(append(numbers, n))
	if err != nil {
		return err
	}
	return models.Commit(ctx, es.Commit{Writes: []es.Write{
		{Model: countsModel, Key: d.Stream, Data: data, Expect: es.Exactly(docs[0].Revision)},
		{Model: countsModel, Key: mark, Data: []byte("[]"), Expect: es.NoStream},
	}})
}

// mortalBackend is a backend in whose commits of read models the process may die.
type mortalBackend struct {
	es.Backend

	w *worker
}

func (b mortalBackend) ReadModels() es.ReadModels { return mortalModels{b.Backend.ReadModels(), b.w} }

type mortalModels struct {
	es.ReadModels

	w *worker
}

func (m mortalModels) Commit(ctx context.Context, c es.Commit) (err error) {
	m.w.around("commit", func() { err = m.ReadModels.Commit(ctx, c) })
	return err
}

type mortalDedupe struct {
	es.Dedupe

	w *worker
}

func (d mortalDedupe) Reserve(ctx context.Context, group string, rs []es.Reservation, lease time.Duration) (err error) {
	d.w.around("reserve", func() { err = d.Dedupe.Reserve(ctx, group, rs, lease) })
	return err
}

func (d mortalDedupe) Complete(ctx context.Context, group string, rs []es.Reservation) (err error) {
	d.w.around("mark", func() { err = d.Dedupe.Complete(ctx, group, rs) })
	return err
}
