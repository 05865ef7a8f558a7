package memory

import (
	"encoding/binary"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	es "github.com/eventsourcing-go/eventsourcing"
)

// TestDedupeGroupDoesAsAMap does the same to a group and to a map with a list of the done, up to its bound and far around it.
func TestDedupeGroupDoesAsAMap(t *testing.T) {
	t.Parallel()
	for name, shared := range map[string]bool{"spread over the chains": false, "all in one chain": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			seed := rand.Uint64()
			m := &groupModel{
				group: newDedupeGroup("group"), random: rand.New(rand.NewPCG(seed, 0)), shared: shared,
				tokens: map[uuid.UUID]uint64{},
			}
			for step := range 20_000 {
				m.step()
				if step%500 == 0 {
					m.check(t)
				}
				if t.Failed() {
					t.Fatalf("after step %d of seed %d", step, seed)
				}
			}
			m.check(t)
		})
	}
}

// groupModel is a group and what it should have.
type groupModel struct {
	group  *dedupeGroup
	random *rand.Rand
	shared bool // the IDs share a chain
	token  uint64

	tokens   map[uuid.UUID]uint64 // of all
	reserved []uuid.UUID
	done     []uuid.UUID // the oldest first
	gone     []uuid.UUID // the last that went
}

const groupBound = 150

func (m *groupModel) step() {
	const now = time.Second
	switch choice := m.random.IntN(10); {
	case choice < 5:
		id := m.newID()
		m.token++
		m.group.reserve(&id, m.token, time.Minute)
		m.tokens[id] = m.token
		m.reserved = append(m.reserved, id)
	case choice < 9 && len(m.reserved) > 0:
		id := m.drawReserved()
		m.group.complete(m.group.find(&id), now, groupBound)
		m.done = append(m.done, id)
		if len(m.done) > groupBound {
			m.forget(m.done[0])
			m.done = m.done[1:]
		}
	case len(m.reserved) > 0:
		id := m.drawReserved()
		m.group.release(m.group.find(&id))
		m.forget(id)
	}
}

// newID returns an ID that was not there. The product that chooses the chain is 0 for those whose first half is the seed's.
func (m *groupModel) newID() uuid.UUID {
	var id uuid.UUID
	binary.LittleEndian.PutUint64(id[:8], m.random.Uint64())
	binary.LittleEndian.PutUint64(id[8:], m.random.Uint64())
	if m.shared {
		binary.LittleEndian.PutUint64(id[:8], m.group.seed[0])
	}
	return id
}

// drawReserved takes one of the reserved; mostly the oldest, as it is with messages.
func (m *groupModel) drawReserved() uuid.UUID {
	i := 0
	if m.random.IntN(3) == 0 {
		i = m.random.IntN(len(m.reserved))
	}
	id := m.reserved[i]
	m.reserved = slices.Delete(m.reserved, i, i+1)
	return id
}

func (m *groupModel) forget(id uuid.UUID) {
	delete(m.tokens, id)
	m.gone = append(m.gone[max(0, len(m.gone)-100):], id)
}

// check looks for everything that is to be there, and for what went.
func (m *groupModel) check(t *testing.T) {
	t.Helper()
	g := m.group
	if g.reserved != len(m.reserved) || g.done != len(m.done) {
		t.Errorf("the group has %d reserved and %d done, want %d and %d", g.reserved, g.done, len(m.reserved), len(m.done))
	}
	for state, ids := range map[dedupeState][]uuid.UUID{dedupeReserved: m.reserved, dedupeDone: m.done} {
		for _, id := range ids {
			n := g.find(&id)
			if s := g.slots[n]; n == 0 || s.id != id || s.state != state || s.token != m.tokens[id] {
				t.Errorf("slot %d of %v is %+v; want token %d, state %d", n, id, s, m.tokens[id], state)
			}
		}
	}
	for _, id := range m.gone {
		if n := g.find(&id); n != 0 {
			t.Errorf("%v is in slot %d, and was forgotten", id, n)
		}
	}
	n := g.oldest
	for _, id := range m.done {
		if g.slots[n].id != id {
			t.Errorf("slot %d is next to be forgotten and has %v, want %v", n, g.slots[n].id, id)
		}
		n = g.slots[n].later
	}
	if len(g.chains) < chainsPerSlot*len(g.slots) {
		t.Errorf("%d slots have %d chains only", len(g.slots), len(g.chains))
	}
	if g.slots[0] != (dedupeSlot{}) {
		t.Errorf("slot 0 is used: %+v", g.slots[0])
	}
}

// TestDedupeUsesSlotsAgain: what a group takes of memory depends on its bound, and not on how many messages there were.
func TestDedupeUsesSlotsAgain(t *testing.T) {
	t.Parallel()
	const bound = 100
	d := openDedupe(t, bound, time.Hour)
	for range 100 * bound {
		rs := reservations(1)
		reserve(t, d, rs, time.Minute, es.ReserveNew)
		complete(t, d, rs)
	}
	if g := d.tables.groups["group"]; len(g.slots) > bound+2 {
		t.Errorf("%d messages that are remembered take %d slots", bound, len(g.slots))
	}
}

// TestDedupeStatesTheEndOfALease: a whole microsecond, not after the lease is over, and the same to everybody; also when the wall
// clock was last read a while ago, and when the lease is longer than there is time.
func TestDedupeStatesTheEndOfALease(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := openDedupe(t, 10, time.Hour)
		for _, lease := range []time.Duration{time.Microsecond, time.Minute + 1, 1000 * time.Hour, math.MaxInt64} {
			for _, pause := range []time.Duration{0, 1, wallClockAge - 1, wallClockAge, time.Hour + 1} {
				time.Sleep(pause)
				now, rs := time.Now(), reservations(1)
				reserve(t, d, rs, lease, es.ReserveNew)
				want := now.Add(lease).UTC().Truncate(time.Microsecond)
				if latest := time.Unix(0, math.MaxInt64).UTC().Truncate(time.Microsecond); want.After(latest) {
					want = latest
				}
				if rs[0].Until != want { // with its place and without a monotonic reading
					t.Errorf("a lease of %v from %v on ends at %v, want %v", lease, now, rs[0].Until, want)
				}
				again := []es.Reservation{{ID: rs[0].ID}}
				if !want.After(now) {
					continue
				}
				if reserve(t, d, again, lease, es.ReserveBusy); again[0].Until != want {
					t.Errorf("somebody else was told that it ends at %v, want %v", again[0].Until, want)
				}
			}
		}
	})
}

// TestDedupeCloseIsForOneBackend: others that have its storage open go on.
func TestDedupeCloseIsForOneBackend(t *testing.T) {
	t.Parallel()
	storage := NewStorage()
	one, err := Open(Config{Storage: storage})
	if err != nil {
		t.Fatal(err)
	}
	other, err := Open(Config{Storage: storage})
	if err != nil {
		t.Fatal(err)
	}
	rs := reservations(1)
	reserve(t, one.dedupe, rs, time.Minute, es.ReserveNew)
	if err := one.Close(); err != nil {
		t.Fatal(err)
	}
	if err := one.dedupe.Complete(t.Context(), "group", rs); !errors.Is(err, es.ErrClosed) {
		t.Errorf("completed after Close: %v, want ErrClosed", err)
	}
	reserve(t, other.dedupe, []es.Reservation{{ID: rs[0].ID}}, time.Minute, es.ReserveBusy)
	complete(t, other.dedupe, rs)
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
}
