package roles_test

import (
	"errors"
	"testing"
	"time"

	"pgregory.net/rapid"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/memory"
)

// TestLeasesDoAsTheirModel does the same to leases and to a model of one lease at a time, on a clock that goes on when told to.
func TestLeasesDoAsTheirModel(t *testing.T) {
	t.Parallel()
	checkOnFakeClock(t, func(t *rapid.T) {
		backend := memory.New()
		defer func() { _ = backend.Close() }() // it never fails
		m := &leaseMachine{leases: backend.Leases(), held: map[string]es.Lease{}, token: map[string]int64{}}
		repeat(t, map[string]func(*rapid.T){
			"":        m.look,
			"acquire": m.acquire,
			"renew":   m.renew,
			"release": m.release,
			"sleep": func(t *rapid.T) {
				time.Sleep(time.Duration(rapid.IntRange(1, 4).Draw(t, "halves")) * time.Second / 2)
			},
		})
	})
}

type leaseMachine struct {
	leases es.Leases
	held   map[string]es.Lease // the last one of each name that was not released
	token  map[string]int64
	given  []es.Lease
}

// holds tells whether a lease is held.
func (m *leaseMachine) holds(l es.Lease) bool {
	held, ok := m.held[l.Name]
	return ok && held.Owner == l.Owner && held.Token == l.Token && held.Until.After(time.Now())
}

func (m *leaseMachine) acquire(t *rapid.T) {
	name := rapid.SampledFrom([]string{"n", "o"}).Draw(t, "name")
	owner := rapid.SampledFrom([]string{"A", "B"}).Draw(t, "owner")
	ttl := time.Duration(rapid.IntRange(1, 3).Draw(t, "seconds")) * time.Second
	got, err := m.leases.Acquire(t.Context(), name, owner, ttl)
	before := m.held[name]
	switch held := m.holds(before); {
	case held && before.Owner != owner:
		var taken *es.LeaseHeldError
		if !errors.As(err, &taken) || taken.Name != name || taken.Owner != before.Owner || !taken.Until.Equal(before.Until) {
			t.Fatalf("acquired what %+v holds: %+v, %v", before, got, err)
		}
		return
	case err != nil:
		t.Fatal(err)
	case held && got.Token != before.Token:
		t.Fatalf("acquired by its owner again, with token %d after %d", got.Token, before.Token)
	case !held && got.Token <= m.token[name]:
		t.Fatalf("token %d after %d", got.Token, m.token[name])
	}
	if got.Name != name || got.Owner != owner || !got.Until.Equal(time.Now().Add(ttl)) {
		t.Fatalf("acquired %+v", got)
	}
	m.held[name], m.token[name] = got, got.Token
	m.given = append(m.given, got)
}

// drawn draws a lease that was given at some time; in some cases one that never was.
func (m *leaseMachine) drawn(t *rapid.T) es.Lease {
	if len(m.given) == 0 {
		t.Skip("no lease was given")
	}
	l := m.given[rapid.IntRange(max(0, len(m.given)-4), len(m.given)-1).Draw(t, "lease")]
	switch rapid.IntRange(0, 9).Draw(t, "forged") {
	case 0:
		l.Token++
	case 1:
		l.Owner = "C"
	}
	return l
}

func (m *leaseMachine) renew(t *rapid.T) {
	l := m.drawn(t)
	ttl := time.Duration(rapid.IntRange(1, 3).Draw(t, "seconds")) * time.Second
	got, err := m.leases.Renew(t.Context(), l, ttl)
	if !m.holds(l) {
		if !errors.Is(err, es.ErrLeaseLost) {
			t.Fatalf("renewed %+v, which is not held: %v", l, err)
		}
		return
	}
	if err != nil || got.Token != l.Token || !got.Until.Equal(time.Now().Add(ttl)) {
		t.Fatalf("renewed %+v: %+v, %v", l, got, err)
	}
	m.held[l.Name] = got
	m.given = append(m.given, got)
}

func (m *leaseMachine) release(t *rapid.T) {
	l := m.drawn(t)
	if err := m.leases.Release(t.Context(), l); err != nil {
		t.Fatal(err)
	}
	if m.holds(l) {
		delete(m.held, l.Name)
	}
}

func (m *leaseMachine) look(t *rapid.T) {
	for _, l := range m.given {
		if err := m.leases.Check(t.Context(), l); m.holds(l) != (err == nil) || err != nil && !errors.Is(err, es.ErrLeaseLost) {
			t.Fatalf("checked %+v: %v; it is held: %v", l, err, m.holds(l))
		}
	}
}
