package roles_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/memory"
)

// The bounds are small, so that a few steps reach them.
const (
	dedupeBound = 4
	dedupeTTL   = 7 * time.Second
)

// TestDedupeDoesAsItsModel does the same to a dedupe and to a list that is looked through from end to end.
func TestDedupeDoesAsItsModel(t *testing.T) {
	t.Parallel()
	checkOnFakeClock(t, func(t *rapid.T) {
		backend, err := memory.Open(memory.Config{DedupeEntries: dedupeBound, DedupeTTL: dedupeTTL})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = backend.Close() }() // it never fails
		m := &dedupeMachine{dedupe: backend.Dedupe(), groups: map[string][]handled{}, ids: make([]uuid.UUID, 8)}
		for i := range m.ids {
			m.ids[i] = es.NewID()
		}
		repeat(t, map[string]func(*rapid.T){
			"reserve":  m.reserve,
			"complete": m.complete,
			"extend":   m.extend,
			"release":  m.release,
			"sleep": func(t *rapid.T) {
				time.Sleep(time.Duration(rapid.IntRange(1, 8).Draw(t, "halves")) * time.Second / 2)
			},
		})
	})
}

type dedupeMachine struct {
	dedupe es.Dedupe
	ids    []uuid.UUID
	groups map[string][]handled // the done in the order in which they were done
	given  []given
	token  uint64
}

// handled is what a group knows of a message.
type handled struct {
	id    uuid.UUID
	token uint64
	until time.Time // end of the lease, or of the memory
	done  bool
}

// given is a reservation as its holder knows it.
type given struct {
	es.Reservation
	group string
}

// index returns where a message is in a group, when all that has expired is gone; -1 when it is not there.
func (m *dedupeMachine) index(group string, id uuid.UUID) int {
	now := time.Now()
	m.groups[group] = slices.DeleteFunc(m.groups[group], func(h handled) bool { return !h.until.After(now) })
	return slices.IndexFunc(m.groups[group], func(h handled) bool { return h.id == id })
}

func (m *dedupeMachine) reserve(t *rapid.T) {
	group := rapid.SampledFrom([]string{"g", "h"}).Draw(t, "group")
	ids := rapid.SliceOfN(rapid.SampledFrom(m.ids), 1, 4).Draw(t, "ids")
	lease := time.Duration(rapid.IntRange(1, 4).Draw(t, "lease")) * time.Second
	rs := make([]es.Reservation, len(ids))
	for i, id := range ids {
		rs[i] = es.Reservation{ID: id, State: es.ReserveDone, Token: 99}
	}
	if err := m.dedupe.Reserve(t.Context(), group, rs, lease); err != nil {
		t.Fatal(err)
	}
	for i, r := range rs {
		at := m.index(group, r.ID)
		want := es.Reservation{ID: ids[i], State: es.ReserveNew, Token: r.Token, Until: time.Now().Add(lease)}
		if at >= 0 {
			h := m.groups[group][at]
			want = es.Reservation{ID: ids[i], State: es.ReserveBusy, Until: h.until}
			if h.done {
				want = es.Reservation{ID: ids[i], State: es.ReserveDone}
			}
		}
		if r.ID != want.ID || r.State != want.State || r.Token != want.Token || !r.Until.Equal(want.Until) {
			t.Fatalf("reservation %d is %+v, want %+v", i, r, want)
		}
		m.given = append(m.given, given{r, group})
		if r.State != es.ReserveNew {
			continue
		}
		if r.Token <= m.token {
			t.Fatalf("token %d came after %d", r.Token, m.token)
		}
		m.token = r.Token
		m.groups[group] = append(m.groups[group], handled{id: r.ID, token: r.Token, until: r.Until})
	}
}

// some draws reservations of a group that were made at some time.
func (m *dedupeMachine) some(t *rapid.T) (string, []es.Reservation) {
	group := rapid.SampledFrom([]string{"g", "h"}).Draw(t, "group")
	var rs []es.Reservation
	for _, g := range m.given[max(0, len(m.given)-12):] {
		if g.group == group {
			rs = append(rs, g.Reservation)
		}
	}
	if len(rs) == 0 {
		t.Skip("the group has nothing")
	}
	return group, rapid.SliceOfN(rapid.SampledFrom(rs), 1, 4).Draw(t, "reservations")
}

func (m *dedupeMachine) complete(t *rapid.T) {
	group, rs := m.some(t)
	err := m.dedupe.Complete(t.Context(), group, rs)
	for i, r := range rs {
		if r.State != es.ReserveNew {
			if es.Of(err, i) != nil {
				t.Fatalf("completed what is %v: %v", r.State, err)
			}
			continue
		}
		at := m.index(group, r.ID)
		if at < 0 || m.groups[group][at].token != r.Token {
			if !errors.Is(es.Of(err, i), es.ErrLeaseLost) {
				t.Fatalf("completed what is not its holder's any more: %v", err)
			}
			continue
		}
		if es.Of(err, i) != nil {
			t.Fatalf("completed %d: %v", i, err)
		}
		m.done(group, at)
	}
}

func (m *dedupeMachine) extend(t *rapid.T) {
	group, rs := m.some(t)
	lease := time.Duration(rapid.IntRange(1, 4).Draw(t, "lease")) * time.Second
	err := m.dedupe.Extend(t.Context(), group, rs, lease)
	for i, r := range rs {
		at := m.index(group, r.ID)
		switch {
		case r.State != es.ReserveNew:
			if es.Of(err, i) != nil {
				t.Fatalf("prolonged what is %v: %v", r.State, err)
			}
		case at < 0 || m.groups[group][at].token != r.Token:
			if !errors.Is(es.Of(err, i), es.ErrLeaseLost) {
				t.Fatalf("prolonged what is not its holder's any more: %v", err)
			}
		case es.Of(err, i) != nil:
			t.Fatalf("prolonged %d: %v", i, err)
		case !m.groups[group][at].done:
			m.groups[group][at].until = time.Now().Add(lease)
			if want := m.groups[group][at].until; !r.Until.Equal(want) {
				t.Fatalf("prolonged until %v, want until %v", r.Until, want)
			}
		}
	}
}

// done moves a reservation to the end of the done, whose first goes when they are too many.
func (m *dedupeMachine) done(group string, at int) {
	h := m.groups[group][at]
	if h.done {
		return
	}
	h.done, h.until = true, time.Now().Add(dedupeTTL)
	m.groups[group] = append(slices.Delete(m.groups[group], at, at+1), h)
	first, n := -1, 0
	for i, h := range m.groups[group] {
		if h.done {
			if n++; first < 0 {
				first = i
			}
		}
	}
	if n > dedupeBound {
		m.groups[group] = slices.Delete(m.groups[group], first, first+1)
	}
}

func (m *dedupeMachine) release(t *rapid.T) {
	group, rs := m.some(t)
	if err := m.dedupe.Release(t.Context(), group, rs); err != nil {
		t.Fatal(err)
	}
	for _, r := range rs {
		at := m.index(group, r.ID)
		if at >= 0 && r.State == es.ReserveNew && m.groups[group][at].token == r.Token && !m.groups[group][at].done {
			m.groups[group] = slices.Delete(m.groups[group], at, at+1)
		}
	}
}
