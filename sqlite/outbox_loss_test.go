package sqlite_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/uuid"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/sqlite/internal/powerloss"
)

// lifetime is when a message was in the outbox, in moments of the disk.
type lifetime struct {
	enqueued int // when that was acknowledged
	leaving  int // when somebody began to complete or discard it; 0: nobody has
	left     int // when that was acknowledged
}

// outboxLife works on an outbox, and takes down the lifetimes of its messages.
type outboxLife struct {
	outboxUser

	disk  *powerloss.Disk
	r     *rand.Rand
	times map[uuid.UUID]*lifetime
	held  []es.Entry
	dead  []uuid.UUID
}

func (l *outboxLife) step() {
	l.t.Helper()
	ctx := l.t.Context()
	switch l.r.IntN(8) {
	case 0, 1, 2:
		msgs := make([]*es.Message, 1+l.r.IntN(4))
		for i := range msgs {
			msgs[i] = es.NewMessage(fmt.Sprint("s", l.r.IntN(5)), "N", make([]byte, l.r.IntN(3000)))
		}
		must(l.t, l.Enqueue(ctx, msgs...))
		for _, m := range msgs {
			l.times[m.ID] = &lifetime{enqueued: l.disk.Moment()}
		}
	case 3, 4:
		l.held = append(l.held, l.take(1+l.r.IntN(20), time.Hour)...)
	case 5:
		l.leave(l.some(), func(entries []es.Entry) error { return l.Complete(ctx, entries) })
	case 6:
		entries := l.some()
		if l.r.IntN(2) == 0 {
			must(l.t, l.Fail(ctx, entries, es.Failure{Err: errBoom}))
			return
		}
		must(l.t, l.Fail(ctx, entries, es.Failure{Err: errBoom, Dead: true, Park: l.r.IntN(2) == 0}))
		for _, e := range entries {
			l.dead = append(l.dead, e.ID)
		}
	case 7:
		must(l.t, l.Release(ctx, l.some()))
		l.raise()
	}
}

// some takes some of the entries in hand.
func (l *outboxLife) some() []es.Entry {
	n := l.r.IntN(len(l.held) + 1)
	entries := l.held[:n]
	l.held = l.held[n:]
	return entries
}

// leave has entries leave the outbox.
func (l *outboxLife) leave(entries []es.Entry, how func([]es.Entry) error) {
	l.t.Helper()
	for _, e := range entries {
		l.times[e.ID].leaving = l.disk.Moment()
	}
	must(l.t, how(entries))
	for _, e := range entries {
		l.times[e.ID].left = l.disk.Moment()
	}
}

// raise replays or discards a dead letter.
func (l *outboxLife) raise() {
	l.t.Helper()
	if len(l.dead) == 0 {
		return
	}
	id := l.dead[0]
	l.dead = l.dead[1:]
	if l.r.IntN(2) == 0 {
		must(l.t, l.Replay(l.t.Context(), id))
		return
	}
	l.leave([]es.Entry{{Message: &es.Message{ID: id}}}, func([]es.Entry) error { return l.Discard(l.t.Context(), id) })
}

// audit opens what was found on a disk after an accident at a moment: what was acknowledged by then is so.
func (l *outboxLife) audit(found *powerloss.Disk, moment int) {
	l.t.Helper()
	db := openStore(l.t, onDisk(found))
	wantWholeOutbox(l.t, db)
	there := map[uuid.UUID]bool{}
	for _, table := range []string{"es_outbox_1", "es_outbox_dead_1"} {
		for _, id := range idsIn(l.t, db, table) {
			there[id] = true
		}
	}
	for id, life := range l.times {
		stays := life.enqueued <= moment && (life.leaving == 0 || life.leaving >= moment)
		gone := life.left != 0 && life.left <= moment
		if stays && !there[id] {
			l.t.Fatalf("at moment %d: %s is lost; it was acknowledged at moment %d", moment, id, life.enqueued)
		}
		if gone && there[id] {
			l.t.Fatalf("at moment %d: %s is there again; that it left was acknowledged at moment %d", moment, id, life.left)
		}
	}
	// Who comes after the accident gets on.
	u := outboxUser{db.Outbox(), l.t, db}
	for letter, err := range u.DeadLetters(l.t.Context()) {
		must(l.t, err)
		must(l.t, u.Discard(l.t.Context(), letter.ID))
	}
	u.add("after", 1)
	u.wait()
	u.take(100, time.Hour)
	wantWholeOutbox(l.t, db)
	must(l.t, db.Close())
	must(l.t, found.Close()) // many are looked at
}

// TestOutboxSurvivesAccidents works on an outbox, and looks at what one finds when the power was lost, or the program killed, in the
// middle of it.
func TestOutboxSurvivesAccidents(t *testing.T) {
	t.Parallel()
	for seed := range uint64(4) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			disk, db := newDiskStore(t)
			l := &outboxLife{
				outboxUser: useOutbox(t, db), disk: disk, r: rand.New(rand.NewPCG(seed, 1)), times: map[uuid.UUID]*lifetime{},
			}
			first := disk.Moment()
			for range 60 {
				l.step()
			}
			for range 12 {
				moment := first + l.r.IntN(disk.Moment()-first+1)
				l.audit(disk.CutAt(moment, l.r), moment)
				l.audit(disk.KillAt(moment), moment)
			}
		})
	}
}
