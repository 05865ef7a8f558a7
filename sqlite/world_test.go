package sqlite_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/sqlite"
)

// world is a program at work on a store: several goroutines that do everything there is to do, and take down what they were told.
type world struct {
	t   testing.TB
	db  *sqlite.DB
	now func() int // the moment, as far as the disk is concerned

	mu    sync.Mutex
	deeds []*deed
}

// deed is something that was done, all of it or nothing.
type deed struct {
	number      int
	what        string
	began, done int // moments; done is 0 while it was not acknowledged, and then it may be done or not
	relaxed     bool

	events    []*es.Message
	places    []es.Place // where they were acknowledged
	mail      []uuid.UUID
	forwarded []uuid.UUID
	completed []uuid.UUID
	buried    []uuid.UUID
	row       bool // there is a row of the program's own, and a document

	model      string // that was put in the place of another
	projection string // that was moved to a position
	position   int64

	stream   string // that was edited
	hidden   int64  // up to which version nobody reads it
	closed   bool   // for good
	erased   []int64
	snapshot int64       // the version that was saved
	handled  []uuid.UUID // by a consumer
	lease    string
	token    int64
}

const worldTables = "CREATE TABLE IF NOT EXISTS rows (n INTEGER PRIMARY KEY)"

// work has a number of goroutines do a number of deeds each.
func (w *world) work(seed uint64, goroutines, deeds int) {
	var wait sync.WaitGroup
	for g := range goroutines {
		wait.Go(func() {
			r := rand.New(rand.NewPCG(seed, uint64(g)))
			me := &actor{world: w, r: r, name: fmt.Sprint("actor-", seed, "-", g)}
			for range deeds {
				me.act()
			}
		})
	}
	wait.Wait()
}

// actor is one of those who do the deeds.
type actor struct {
	*world
	r    *rand.Rand
	name string

	progress es.Progress // of its own projection
	edited   int         // how many streams of its own it has edited
}

// begin takes down that something begins.
func (a *actor) begin(what string) *deed {
	a.mu.Lock()
	defer a.mu.Unlock()
	d := &deed{number: len(a.deeds) + 1, what: what, began: a.now()}
	a.deeds = append(a.deeds, d)
	return d
}

// end takes down what became of it. Errors are those of a fault that the test has made, or it has failed.
func (a *actor) end(d *deed, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err != nil {
		a.t.Errorf("deed %d (%s): %v", d.number, d.what, err)
		return
	}
	d.done = a.now()
}

func (a *actor) act() {
	acts := []func(){a.append, a.append, a.append, a.appendMany, a.appendEach, a.update, a.update, a.enqueue, a.enqueue, a.claim, a.claim,
		a.project, a.project, a.replace, a.edit, a.erase, a.save, a.handle, a.acquire}
	acts[a.r.IntN(len(acts))]()
}

// stream is one that others write to as well.
func (a *actor) stream() string { return fmt.Sprintf("order-%d", a.r.IntN(8)) }

// event makes an event of a deed.
func (a *actor) event(d *deed, stream string) *es.Message {
	m := es.NewMessage(stream, fmt.Sprintf("Name%d", a.r.IntN(5)), []byte(`"`+strings.Repeat("x", a.r.IntN(40)*a.r.IntN(100))+`"`))
	m.Tags = []string{fmt.Sprint("deed:", d.number), fmt.Sprint("tag:", a.r.IntN(4))}
	d.events = append(d.events, m)
	return m
}

func (a *actor) append() {
	d := a.begin("append")
	stream := a.stream()
	var events []*es.Message
	for range 1 + a.r.IntN(3) {
		events = append(events, a.event(d, stream))
	}
	done, err := a.db.Events().Append(context.Background(), es.AppendTo(stream, es.Any, events...))
	d.places = done.Places
	a.end(d, err)
}

// appendMany appends to several streams at once.
func (a *actor) appendMany() {
	d := a.begin("append to several streams")
	var all es.Append
	for n := range 1 + a.r.IntN(3) {
		stream := fmt.Sprintf("order-%d", n)
		all.Streams = append(all.Streams, es.StreamAppend{Stream: stream, Events: []*es.Message{a.event(d, stream), a.event(d, stream)}})
	}
	done, err := a.db.Events().Append(context.Background(), all)
	d.places = done.Places
	a.end(d, err)
}

// appendEach does several appends that do not depend on each other.
func (a *actor) appendEach() {
	var appends []es.Append
	var deeds []*deed
	for range 1 + a.r.IntN(6) {
		d := a.begin("one of several appends")
		stream := a.stream()
		appends = append(appends, es.AppendTo(stream, es.Any, a.event(d, stream)))
		deeds = append(deeds, d)
	}
	for i, o := range a.db.Events().AppendEach(context.Background(), appends) {
		deeds[i].places = o.Places
		a.end(deeds[i], o.Err)
	}
}

// update does several things in one transaction, the program's own among them.
func (a *actor) update() {
	d := a.begin("update")
	d.row = true
	stream := a.stream()
	one, two, mail := a.event(d, stream), a.event(d, stream), event(a.stream(), d.number)
	d.mail = []uuid.UUID{mail.ID}
	err := a.db.Update(context.Background(), func(tx *sqlite.Tx) error {
		done, err := tx.Append(es.AppendTo(stream, es.Any, one, two))
		d.places = done.Places
		if err != nil {
			return err
		}
		if err := tx.Exec("INSERT INTO rows VALUES (?)", d.number); err != nil {
			return err
		}
		if err := tx.Enqueue(mail); err != nil {
			return err
		}
		return tx.Project(es.Commit{Writes: []es.Write{{Model: "rows", Key: strconv.Itoa(d.number), Data: []byte("{}")}}})
	})
	a.end(d, err)
}

func (a *actor) enqueue() {
	d := a.begin("enqueue")
	var messages []*es.Message
	for range 1 + a.r.IntN(4) {
		m := event(a.stream(), d.number)
		messages = append(messages, m)
		d.mail = append(d.mail, m.ID)
	}
	a.end(d, a.db.Outbox().Enqueue(context.Background(), messages...))
}

// claim takes something out of the outbox, and does something with it.
func (a *actor) claim() {
	entries := make([]es.Entry, 1+a.r.IntN(4))
	n, err := a.db.Outbox().Claim(context.Background(), entries, es.ClaimOptions{Owner: a.name})
	if err != nil {
		a.t.Errorf("claim: %v", err)
	}
	if entries = entries[:n]; n == 0 {
		return
	}
	d := a.begin("answer entries of the outbox")
	ids := make([]uuid.UUID, n)
	for i := range entries {
		ids[i] = entries[i].ID
	}
	switch a.r.IntN(5) {
	case 0:
		d.completed = ids
		a.end(d, a.db.Outbox().Complete(context.Background(), entries))
	case 1:
		d.relaxed = true
		a.end(d, a.db.Outbox().Release(context.Background(), entries))
	case 2:
		f := es.Failure{Err: errors.New("failed"), Dead: a.r.IntN(2) == 0, Park: a.r.IntN(2) == 0}
		if f.Dead {
			d.buried = ids
		}
		a.end(d, a.db.Outbox().Fail(context.Background(), entries, f))
	default:
		d.forwarded = ids
		for _, o := range a.db.Outbox().(es.Forwarder).Forward(context.Background(), entries) { //nolint:errcheck // it is one
			err = errors.Join(err, o.Err)
		}
		a.end(d, err)
	}
}

// project moves the checkpoint of a projection on, with a document for each position.
func (a *actor) project() {
	d := a.begin("project")
	from, to := a.progress, a.progress
	to.Generation, to.Position = 1, to.Position+1
	d.projection, d.position = a.name, to.Position
	err := a.db.ReadModels().Commit(context.Background(), es.Commit{
		Writes: []es.Write{
			{Model: a.name, Key: strconv.FormatInt(to.Position, 10), Data: []byte("{}")},
			{Model: a.name, Key: "last", Data: fmt.Append(nil, to.Position)},
		},
		Progress: es.ProgressUpdate{Projection: a.name, From: from, To: to},
	})
	a.progress = to
	a.end(d, err)
}

// replace builds a model aside and puts it in the place of another.
func (a *actor) replace() {
	built := event("built-1", 1).ID.String()
	err := a.db.ReadModels().Commit(context.Background(), es.Commit{Writes: []es.Write{{Model: built, Key: "built", Data: []byte("{}")}}})
	d := a.begin("switch")
	d.model = "model-of-" + built
	a.end(d, errors.Join(err, a.db.ReadModels().Switch(context.Background(), es.Replacement{Model: d.model, With: built})))
}

// ownStream appends to a stream that nobody else writes to.
func (a *actor) ownStream() (stream string, version int64) {
	d := a.begin("append to a stream of its own")
	a.edited++
	stream = fmt.Sprintf("%s-%d", strings.ReplaceAll(a.name, "-", "_"), a.edited)
	var events []*es.Message
	for range 2 + a.r.IntN(4) {
		events = append(events, a.event(d, stream))
	}
	done, err := a.db.Events().Append(context.Background(), es.AppendTo(stream, es.NoStream, events...))
	d.places = done.Places
	a.end(d, err)
	return stream, int64(len(events))
}

// edit truncates or deletes a stream.
func (a *actor) edit() {
	stream, version := a.ownStream()
	editor := a.db.Events().(es.StreamEditor) //nolint:errcheck // it is one
	d := a.begin("edit")
	d.stream, d.hidden = stream, version
	var err error
	switch a.r.IntN(3) {
	case 0:
		d.hidden = 1 + a.r.Int64N(version)
		err = editor.Truncate(context.Background(), stream, d.hidden+1)
	case 1:
		err = editor.Delete(context.Background(), stream, es.SoftDelete)
	default:
		d.closed = true
		err = editor.Delete(context.Background(), stream, es.Tombstone)
	}
	a.end(d, err)
}

func (a *actor) erase() {
	stream, version := a.ownStream()
	d := a.begin("erase")
	d.stream, d.erased = stream, []int64{1 + a.r.Int64N(version)}
	audit := a.event(d, "audit-1")
	erasure := es.Erasure{Stream: stream, Versions: d.erased, Audit: audit}
	done, err := a.db.Events().Erase(context.Background(), erasure)
	d.places = done.Places
	a.end(d, err)
}

// save saves a snapshot.
func (a *actor) save() {
	d := a.begin("save")
	d.relaxed, d.stream, d.snapshot = true, a.name, int64(d.number)
	s := snapshot(d.snapshot)
	s.Stream = a.name
	a.end(d, a.db.Snapshots().Save(context.Background(), s))
}

// handle handles messages once.
func (a *actor) handle() {
	reservations := []es.Reservation{{ID: es.NewID()}, {ID: es.NewID()}}
	if err := a.db.Dedupe().Reserve(context.Background(), "consumer", reservations, time.Minute); err != nil {
		a.t.Errorf("reserve: %v", err)
	}
	d := a.begin("complete")
	for i := range reservations {
		d.handled = append(d.handled, reservations[i].ID)
	}
	a.end(d, a.db.Dedupe().Complete(context.Background(), "consumer", reservations))
}

// acquire takes a lease of its own, and lets it go.
func (a *actor) acquire() {
	d := a.begin("acquire")
	d.lease = a.name
	lease, err := a.db.Leases().Acquire(context.Background(), a.name, a.name, time.Hour)
	d.token = lease.Token
	a.end(d, err)
	if err := a.db.Leases().Release(context.Background(), lease); err != nil {
		a.t.Errorf("release: %v", err)
	}
}

// found is what is found in a store.
type found struct {
	places    map[uuid.UUID]es.Place
	mail      map[uuid.UUID]bool
	dead      map[uuid.UUID]bool
	rows      map[int]bool
	documents map[string]bool
}

// find reads a store.
func find(t testing.TB, db *sqlite.DB) *found {
	t.Helper()
	f := &found{
		places: map[uuid.UUID]es.Place{}, mail: map[uuid.UUID]bool{}, dead: map[uuid.UUID]bool{}, rows: map[int]bool{},
		documents: map[string]bool{},
	}
	err := db.View(context.Background(), func(v *sqlite.View) error {
		return errors.Join(
			v.Query(func(r sqlite.Row) error {
				f.places[uuid.UUID(r.Bytes(0))] = es.Place{Version: r.Int64(1), Position: r.Int64(2)}
				return nil
			}, "SELECT id, version, position FROM es_events_1"),
			v.Query(func(r sqlite.Row) error {
				id := uuid.UUID(r.Bytes(0))
				f.mail[id], f.dead[id] = true, r.Int64(1) == 1
				return nil
			}, "SELECT id, 0 FROM es_outbox_1 UNION ALL SELECT id, 1 FROM es_outbox_dead_1"),
			v.Query(func(r sqlite.Row) error { f.rows[int(r.Int64(0))] = true; return nil }, "SELECT n FROM rows"),
			v.Query(func(r sqlite.Row) error { f.documents[r.Text(0)+" "+r.Text(1)] = true; return nil },
				"SELECT name, key FROM es_documents_1 JOIN es_models_1 USING (model)"),
		)
	})
	if err != nil && !strings.Contains(err.Error(), "no such table: rows") {
		t.Fatalf("read: %v", err)
	}
	return f
}

// accident is what has happened to the disk of a store.
type accident int

const (
	powerLost accident = iota // what was not synced may be gone
	killed                    // everything that was written is there
)

// audit fails the test unless a store, as it was found after an accident at a moment, has what was acknowledged by then, and nothing
// half.
func (w *world) audit(t testing.TB, db *sqlite.DB, moment int, what accident) {
	t.Helper()
	a := audit{world: w, TB: t, db: db, found: find(t, db), moment: moment, what: what, answered: map[uuid.UUID]string{}}
	for _, d := range w.deeds {
		for _, id := range d.forwarded {
			a.answered[id] = "forwarded"
		}
		for _, id := range d.completed {
			a.answered[id] = "completed"
		}
	}
	for _, d := range w.deeds {
		a.deed(d)
	}
	a.progress()
}

type audit struct {
	testing.TB
	*world
	db       *sqlite.DB
	found    *found
	moment   int
	what     accident
	answered map[uuid.UUID]string // what may have become of messages in the outbox
}

// acknowledged tells whether a deed was acknowledged in time to be there still.
func (a *audit) acknowledged(d *deed) bool {
	return d.done > 0 && d.done <= a.moment && (!d.relaxed || a.what == killed)
}

func (a *audit) wrongf(d *deed, format string, args ...any) {
	a.Helper()
	a.Errorf("deed %d (%s; moments %d to %d): %s", d.number, d.what, d.began, d.done, fmt.Sprintf(format, args...))
}

func (a *audit) deed(d *deed) {
	must := a.acknowledged(d)
	there, parts := 0, 0
	count := func(is bool) {
		parts++
		if is {
			there++
		}
	}
	for i, m := range d.events {
		place, is := a.found.places[m.ID]
		count(is)
		if is && d.done > 0 && place != d.places[i] {
			a.wrongf(d, "event %s is at %+v, and was acknowledged at %+v", m.ID, place, d.places[i])
		}
	}
	if d.row {
		count(a.found.rows[d.number])
		count(a.found.documents["rows "+strconv.Itoa(d.number)])
	}
	for _, id := range d.mail {
		_, appended := a.found.places[id]
		is := a.found.mail[id] || appended
		if !is && a.answered[id] == "completed" && there == parts {
			is = parts > 0 || must // it may have been completed since
		}
		if a.found.mail[id] && appended {
			a.wrongf(d, "message %s is in the outbox, and was appended", id)
		}
		count(is)
	}
	switch {
	case must && there < parts:
		a.wrongf(d, "%d of %d parts are there of what was acknowledged", there, parts)
	case there > 0 && there < parts && !a.ambiguous(d):
		a.wrongf(d, "%d of %d parts are there", there, parts)
	case there > 0 && d.began > a.moment:
		a.wrongf(d, "%d parts are there of what had not begun", there)
	}
	if must {
		a.lasting(d)
	}
}

// ambiguous tells whether a deed may be there in part, because the rest was taken out of the outbox since.
func (a *audit) ambiguous(d *deed) bool {
	return slices.ContainsFunc(d.mail, func(id uuid.UUID) bool { return a.answered[id] == "completed" })
}

// lasting looks at what a deed that was acknowledged has changed of what was there before.
func (a *audit) lasting(d *deed) {
	ctx := context.Background()
	for _, id := range d.forwarded {
		if _, appended := a.found.places[id]; !appended || a.found.mail[id] {
			a.wrongf(d, "message %s was forwarded, and it is %t that it was appended, and %t that it waits", id, appended, a.found.mail[id])
		}
	}
	for _, id := range d.completed {
		if a.found.mail[id] {
			a.wrongf(d, "message %s was completed, and it waits", id)
		}
	}
	for _, id := range d.buried {
		if !a.found.dead[id] {
			a.wrongf(d, "message %s is a dead letter, and is not there as one", id)
		}
	}
	if d.model != "" && !a.found.documents[d.model+" built"] {
		a.wrongf(d, "model %q is not there", d.model)
	}
	if d.hidden > 0 || d.erased != nil {
		for m, err := range a.db.Events().Read(ctx, es.Query{Stream: d.stream}) {
			switch {
			case err != nil:
				a.wrongf(d, "read: %v", err)
			case m.Version <= d.hidden:
				a.wrongf(d, "version %d of stream %q is there, and was hidden", m.Version, d.stream)
			case slices.Contains(d.erased, m.Version) && m.Data != nil:
				a.wrongf(d, "version %d of stream %q is there, and was erased", m.Version, d.stream)
			}
		}
	}
	if d.closed {
		_, err := a.db.Events().Append(ctx, es.AppendTo(d.stream, es.Any, event(d.stream, 1)))
		if !errors.Is(err, es.ErrStreamDeleted) {
			a.wrongf(d, "an append to the stream that was closed: %v", err)
		}
	}
	if d.snapshot > 0 {
		s, err := a.db.Snapshots().Load(ctx, es.SnapshotKey{Stream: d.stream, Name: "order", Schema: 1})
		if err != nil || s.Version < d.snapshot {
			a.wrongf(d, "the snapshot is of version %d: %v", s.Version, err)
		}
	}
	if d.handled != nil {
		var again []es.Reservation
		for _, id := range d.handled {
			again = append(again, es.Reservation{ID: id})
		}
		err := a.db.Dedupe().Reserve(ctx, "consumer", again, time.Minute)
		for i := range again {
			if err != nil || again[i].State != es.ReserveDone {
				a.wrongf(d, "message %s was handled, and is in state %v: %v", again[i].ID, again[i].State, err)
			}
		}
	}
	if d.token > 0 {
		if err := a.db.View(ctx, func(v *sqlite.View) error {
			return v.Query(func(r sqlite.Row) error {
				if r.Int64(0) < d.token {
					a.wrongf(d, "the last token is %d, and %d was given", r.Int64(0), d.token)
				}
				return nil
			}, "SELECT ifnull((SELECT token FROM es_leases_1 WHERE name = ?), 0)", d.lease)
		}); err != nil {
			a.wrongf(d, "view: %v", err)
		}
	}
}

// progress compares the checkpoint of each projection with its documents.
func (a *audit) progress() {
	least, most := map[string]int64{}, map[string]int64{}
	for _, d := range a.deeds {
		if d.projection == "" {
			continue
		}
		if a.acknowledged(d) {
			least[d.projection] = max(least[d.projection], d.position)
		}
		if d.began <= a.moment {
			most[d.projection] = max(most[d.projection], d.position)
		}
	}
	for name := range most {
		p, err := a.db.ReadModels().Progress(context.Background(), name)
		if err != nil || p.Position < least[name] || p.Position > most[name] {
			a.Errorf("projection %q is at %d, and is to be from %d to %d: %v", name, p.Position, least[name], most[name], err)
		}
		for n := range most[name] {
			if there := a.found.documents[fmt.Sprint(name, " ", n+1)]; there != (n < p.Position) {
				a.Errorf("projection %q is at %d, and it is %t that it has document %d", name, p.Position, there, n+1)
			}
		}
	}
}
