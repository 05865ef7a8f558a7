package sqlite_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/sqlite"
)

// TestKilledClaims kills processes that have claimed entries and forwarded some of them. The others come back when the lease has ended,
// each as one attempt more. In the end each is stored once, in the order in which it was enqueued.
func TestKilledClaims(t *testing.T) {
	t.Parallel()
	c := newCrash(t, newPath(t))
	const perLife = 3
	j := job{Kind: "claim", First: 1}
	claims := claimed{crash: c, attempts: map[string]int{}, untold: map[string]int{}}
	for enough := false; !enough; {
		j.Last += perLife
		j.Moment = c.draw("enqueue", "claim", "telling", "forward")
		if enough = c.killed >= *kills; enough {
			j.Moment = moment{}
		}
		r := c.runBeside(j)[0]
		for _, line := range r.lines {
			if line == "added" {
				j.First = j.Last + 1
			}
			claims.hear(line)
		}
		if r.killed && strings.HasSuffix(j.Moment.Point, " claim") {
			claims.unheard++
		}
	}
	c.Logf("entries came back %d times", claims.back)
	db := c.openFile("")
	c.wantNumbers("stored", c.readNumbers(db, topic), 1, j.Last)
	c.wantEmptyOutbox(db)
}

// claimed follows what processes tell of their claims.
type claimed struct {
	*crash

	attempts map[string]int // of each entry, the last that was told
	untold   map[string]int // how many claims had not been told of when that was
	unheard  int            // claims that nobody could tell of, because the process died in them
	back     int            // how often entries came back
}

// hear hears a line such as "claimed numbers-00 7 as attempt 2".
func (c *claimed) hear(line string) {
	c.Helper()
	entry, attempt := "", 0
	if rest, ok := strings.CutPrefix(line, "claimed "); !ok {
		return
	} else if _, err := fmt.Sscanf(strings.Replace(rest, " ", "/", 1), "%s as attempt %d", &entry, &attempt); err != nil {
		c.Fatalf("%s: %v", line, err)
	}
	least := c.attempts[entry] + 1
	if most := least + c.unheard - c.untold[entry]; attempt < least || attempt > most {
		c.Errorf("%s; want attempt %d to %d", line, least, most)
	}
	if least > 1 {
		c.back++
	}
	c.attempts[entry], c.untold[entry] = attempt, c.unheard
}

// claimEntries is a job: it enqueues messages, claims what is in the outbox, and forwards some of it or, when it is to live, all of it.
func claimEntries(ctx context.Context, w *worker) (err error) {
	db, err := sqlite.Open(sqlite.Config{Path: w.Path})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	outbox := db.Outbox()
	for _, m := range w.numbers() {
		w.around("enqueue", func() { err = outbox.Enqueue(ctx, m) })
		if err != nil {
			return err
		}
	}
	w.tell("added")
	forwarder, ok := outbox.(es.Forwarder)
	if !ok {
		return fmt.Errorf("%T is no Forwarder", outbox)
	}
	random := rand.New(rand.NewPCG(w.Random, 0))
	owner := es.ClaimOptions{Owner: fmt.Sprint("claimer ", w.Random), Lease: lease}
	for dst := make([]es.Entry, 4); ; {
		if stats, err := outbox.Stats(ctx); err != nil || stats.Depth == 0 {
			return err
		}
		if err := outbox.Wait(ctx); err != nil { // the lease of those that died has to end
			return err
		}
		n := 0
		w.around("claim", func() { n, err = outbox.Claim(ctx, dst, owner) })
		if err != nil {
			return err
		}
		if n == 0 {
			continue
		}
		for _, e := range dst[:n] {
			w.tell("claimed", e.Stream, numberOf(e.Message), "as attempt", e.Attempt)
		}
		w.around("telling", func() {})
		if w.Moment.Point != "" {
			n = random.IntN(n + 1)
		}
		var outcomes []es.Outcome
		w.around("forward", func() { outcomes = forwarder.Forward(ctx, dst[:n]) })
		for _, o := range outcomes {
			if o.Err != nil && !errors.Is(o.Err, es.ErrLeaseLost) && !errors.Is(o.Err, es.ErrHeldBack) {
				return o.Err
			}
		}
	}
}
