package aggregate_test

import (
	"context"
	"errors"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/aggregate"
	"github.com/eventsourcing-go/eventsourcing/memory"
	"github.com/eventsourcing-go/eventsourcing/sqlite"
)

// onEach runs a test on each backend that needs no server.
func onEach(t *testing.T, test func(t *testing.T, backend es.Backend)) {
	t.Helper()
	open := map[string]func(t *testing.T) (es.Backend, error){
		"memory": func(*testing.T) (es.Backend, error) { return memory.New(), nil },
		"sqlite": func(t *testing.T) (es.Backend, error) {
			return sqlite.Open(sqlite.Config{Path: filepath.Join(t.TempDir(), "events.db")})
		},
	}
	for name, open := range open {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			backend, err := open(t)
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := backend.Close(); err != nil {
					t.Error(err)
				}
			}()
			test(t, backend)
		})
	}
}

var errLost = errors.New("the connection was lost")

// lossy loses every third append on the way to the store, and every third answer on the way back.
type lossy struct {
	es.EventStore

	calls atomic.Int64
}

func (l *lossy) Append(ctx context.Context, a es.Append) (es.Appended, error) {
	call := l.calls.Add(1)
	if call%3 == 0 {
		return es.Appended{}, errLost
	}
	done, err := l.EventStore.Append(ctx, a)
	if err == nil && call%3 == 1 {
		return es.Appended{}, errLost
	}
	return done, err
}

// drawn is a number that somebody has drawn. By is the caller's own mark, one for each call.
type drawn struct {
	N  int
	By string
}

// drum is what is known of the numbers: the last, and who has drawn which.
type drum struct {
	Last int
	By   map[string]int
}

func turn(d drum, e any) drum {
	draw := e.(drawn) //nolint:errcheck // nothing else is in it
	if d.By == nil {
		d.By = map[string]int{}
	}
	d.Last = draw.N
	d.By[draw.By]++
	return d
}

// TestRacingUpdatesAreOneAfterTheOther: whoever draws takes the number after the last. Each draw that was said to be done is there once, one
// that was not at most once, and the numbers are 1, 2, 3, ... in the order of the stream.
func TestRacingUpdatesAreOneAfterTheOther(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, backend es.Backend) {
		types := es.NewTypes()
		es.Register[drawn](types, "Drawn")
		const callers, draws, programs = 9, 15, 6
		var all sync.WaitGroup
		var mu sync.Mutex
		done, tried := map[string]int{}, map[string]bool{}
		repositories := make([]*aggregate.Repository[drum, any], programs) // so some are shared
		for i := range repositories {
			repositories[i] = newDrum(t, backend, types, i)
		}
		for caller := range callers {
			r := repositories[caller%programs]
			all.Go(func() {
				for i := range draws {
					by := strconv.Itoa(caller) + "/" + strconv.Itoa(i)
					updated, err := r.Update(t.Context(), "1", func(d drum) ([]any, error) {
						return []any{drawn{N: d.Last + 1, By: by}}, nil
					})
					mu.Lock()
					tried[by] = true
					if err == nil {
						done[by] = updated.State.Last
					} else if !errors.Is(err, errLost) && !errors.Is(err, es.ErrConflict) {
						t.Error(err)
					}
					mu.Unlock()
				}
			})
		}
		all.Wait()
		numbers := map[string]int{}
		last := 0
		for m, err := range backend.Events().Read(t.Context(), es.Query{Stream: "drum-1"}) {
			if err != nil {
				t.Fatal(err)
			}
			d, err := es.Decode[drawn](types, m)
			if err != nil {
				t.Fatal(err)
			}
			if last++; d.N != last {
				t.Fatalf("number %d is at version %d", d.N, m.Version)
			}
			if before, twice := numbers[d.By]; twice {
				t.Errorf("%s has drawn %d and %d by one call", d.By, before, d.N)
			}
			numbers[d.By] = d.N
		}
		for by, n := range done {
			if numbers[by] != n {
				t.Errorf("%s was told %d, and has %d", by, n, numbers[by])
			}
		}
		for by := range numbers {
			if !tried[by] {
				t.Errorf("%s has a number and has not drawn", by)
			}
		}
		if len(done) < callers*draws/2 {
			t.Errorf("only %d of %d draws were done", len(done), callers*draws)
		}
	})
}

// newDrum makes a repository: with a cache, with snapshots, or both, on a store that loses some of what is sent.
func newDrum(t *testing.T, backend es.Backend, types *es.Types, number int) *aggregate.Repository[drum, any] {
	t.Helper()
	c := aggregate.Config[drum, any]{
		Events: &lossy{EventStore: backend.Events()}, Types: types, Category: "drum", Evolve: turn, Attempts: 200,
		Clone: func(d drum) drum { d.By = maps.Clone(d.By); return d },
	}
	if number%2 == 0 {
		c.CacheSize = 1 + number
	}
	if number%3 > 0 {
		c.Snapshots, c.SnapshotEvery = backend.Snapshots(), 1+number
	}
	r, err := aggregate.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// enrolled is an event about a course and a student.
type enrolled struct{ Course, Student string }

func (e enrolled) EventTags() []string { return []string{"course:" + e.Course, "student:" + e.Student} }

// TestRacingDecisionsKeepTheLimit: two courses have room for five each, and each of eight students, who has time for one, tries to get into
// both, over and over.
func TestRacingDecisionsKeepTheLimit(t *testing.T) {
	t.Parallel()
	const room, students = 5, 8
	onEach(t, func(t *testing.T, backend es.Backend) {
		types := es.NewTypes()
		es.Register[enrolled](types, "Enrolled")
		d, err := aggregate.NewDecision(aggregate.DecisionConfig[[]enrolled, enrolled]{
			Events: &lossy{EventStore: backend.Events()}, Types: types, Attempts: 500,
			Evolve: func(all []enrolled, e enrolled) []enrolled { return append(all, e) },
		})
		if err != nil {
			t.Fatal(err)
		}
		full := errors.New("no seat, or no time")
		var all sync.WaitGroup
		for student := range students {
			all.Go(func() {
				for _, course := range []string{"a", "b", "a", "b"} {
					e := enrolled{Course: course, Student: strconv.Itoa(student)}
					tags := e.EventTags()
					_, err := d.Decide(t.Context(), []es.Criterion{{Tags: tags[:1]}, {Tags: tags[1:]}}, func(others []enrolled) ([]aggregate.Write, error) {
						seats := 0
						for _, o := range others {
							if o.Course == e.Course {
								seats++
							}
						}
						if seats >= room || slices.ContainsFunc(others, func(o enrolled) bool { return o.Student == e.Student }) {
							return nil, full
						}
						return []aggregate.Write{aggregate.To("enrolment-"+e.Course+"-"+e.Student, e)}, nil
					})
					if err != nil && !errors.Is(err, full) && !errors.Is(err, errLost) {
						t.Error(err)
					}
				}
			})
		}
		all.Wait()
		seats, courses := map[string]int{}, map[string]int{}
		for m, err := range backend.Events().Read(t.Context(), es.Query{}) {
			if err != nil {
				t.Fatal(err)
			}
			e, err := es.Decode[enrolled](types, m)
			if err != nil {
				t.Fatal(err)
			}
			if seats[e.Course]++; seats[e.Course] > room {
				t.Errorf("course %s has %d students", e.Course, seats[e.Course])
			}
			if courses[e.Student]++; courses[e.Student] > 1 {
				t.Errorf("student %s is in %d courses", e.Student, courses[e.Student])
			}
		}
		if len(courses) < students/2 {
			t.Errorf("only %d students are in a course", len(courses))
		}
	})
}
