package memory

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/uuid"

	es "github.com/eventsourcing-go/eventsourcing"
)

// naive is what a list of postings is to be like.
type naive []uint32

func (n naive) seek(position uint32, reverse bool) uint32 {
	i, exact := slices.BinarySearch(n, position)
	switch {
	case exact:
		return position
	case reverse && i > 0:
		return n[i-1]
	case !reverse && i < len(n):
		return n[i]
	}
	return 0
}

// TestPostings makes lists of several pages with gaps, takes random parts away, and looks for what is left from both ends.
func TestPostings(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	for range 30 {
		var p postings
		var want naive
		position := uint32(0)
		for range random.IntN(4 * postingsPage) {
			position += 1 + uint32(random.IntN(3))
			p.add(position)
			want = append(want, position)
		}
		checkPostings(t, &p, want, position+2)
		for range 4 {
			var gone naive
			share := random.IntN(10)
			from, to := random.IntN(len(want)+1), random.IntN(len(want)+1)
			for i := min(from, to); i < max(from, to); i++ {
				if random.IntN(10) >= share {
					gone = append(gone, want[i])
				}
			}
			if len(gone) == 0 {
				continue
			}
			p.remove(gone)
			want = slices.DeleteFunc(want, func(position uint32) bool {
				_, found := slices.BinarySearch(gone, position)
				return found
			})
			checkPostings(t, &p, want, position+2)
		}
		p.add(position + 1)
		want = append(want, position+1)
		checkPostings(t, &p, want, position+2)
	}
}

func checkPostings(t *testing.T, p *postings, want naive, end uint32) {
	t.Helper()
	if p.n != len(want) || len(want) > 0 && p.last() != want[len(want)-1] || len(want) == 0 && p.last() != 0 {
		t.Fatalf("%d positions up to %d; want %d", p.n, p.last(), len(want))
	}
	for _, step := range []uint32{1, 7, 600} {
		forward := listCursor(p, false)
		for position := uint32(1); position <= end; position += step {
			if got := forward.seek(position); got != want.seek(position, false) {
				t.Fatalf("seek forward to %d in steps of %d gives %d, want %d", position, step, got, want.seek(position, false))
			}
		}
		backward := listCursor(p, true)
		for position := end; position > step; position -= step {
			if got := backward.seek(position); got != want.seek(position, true) {
				t.Fatalf("seek backward to %d in steps of %d gives %d, want %d", position, step, got, want.seek(position, true))
			}
		}
	}
}

// TestPostingsDropFront looks positions up by their place in the list, as versions are.
func TestPostingsDropFront(t *testing.T) {
	t.Parallel()
	var p postings
	const n = 3*postingsPage + 100
	for i := range uint32(n) {
		p.add(2*i + 2)
	}
	dropped := 0
	for _, drop := range []int{1, 99, postingsPage - 100, 5, postingsPage, postingsPage - 5, 50, 40, 10} {
		p.dropFront(drop)
		dropped += drop
		if p.n != n-dropped {
			t.Fatalf("%d are left, want %d", p.n, n-dropped)
		}
		for i := range p.n {
			if got, want := p.at(i), uint32(2*(dropped+i)+2); got != want {
				t.Fatalf("after dropping %d, the %dth is %d, want %d", dropped, i, got, want)
			}
		}
	}
	if p.n != 0 || p.last() != 0 {
		t.Fatalf("%d are left, the last is %d; want none", p.n, p.last())
	}
}

// TestIDsWhileTheIndexGrows finds every ID, and no other, at each size of the index on the way to some thousand.
func TestIDsWhileTheIndexGrows(t *testing.T) {
	t.Parallel()
	l := newEventLog()
	ids := []uuid.UUID{uuid.Nil} // by position
	for i := range 3000 {
		m := es.NewMessage("stream-1", "Happened", nil)
		if i%2 == 0 {
			m.ID = uuid.New() // random, where the others rise with time
		}
		if got := l.find(m.ID, l.ids.hash(m.ID)); got != 0 {
			t.Fatalf("an ID that was not added is found at %d", got)
		}
		if _, err := l.append(es.AppendTo("stream-1", es.Any, m), es.Limits{}); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, m.ID)
		for position := 1 + i%13; position < len(ids); position += 13 {
			if got := l.find(ids[position], l.ids.hash(ids[position])); got != uint32(position) {
				t.Fatalf("of %d events, the one at %d is found at %d", len(ids)-1, position, got)
			}
		}
	}
}

// logBytes is what the log keeps of events, and whether a text is in it.
func (l *eventLog) logBytes(text string) (size int, found bool) {
	for _, c := range l.chunks {
		size += cap(c.data)
		found = found || bytes.Contains(c.data[:cap(c.data)], []byte(text))
		for _, blob := range c.blobs {
			size += len(blob)
			found = found || bytes.Contains(blob, []byte(text))
		}
	}
	return size, found
}

// TestErasedBytesAreGone looks for erased data, metadata and large payloads in the memory of the log.
func TestErasedBytesAreGone(t *testing.T) {
	t.Parallel()
	for _, size := range []int{0, 100, blobBytes - 1, blobBytes, 3 * chunkBytes} {
		for _, later := range []int{0, 300} {
			l := newEventLog()
			secret := es.NewMessage("user-1", "Registered", []byte("the secret"+string(bytes.Repeat([]byte{'.'}, size))))
			secret.Metadata = map[string]string{"ip": "the secret", "secret": "the secret"}
			mustAppend(t, l, "user-1", secret)
			for i := range later {
				mustAppend(t, l, fmt.Sprintf("other-%d", i%7), es.NewMessage(fmt.Sprintf("other-%d", i%7), "Happened", make([]byte, 500)))
			}
			if _, found := l.logBytes("the secret"); !found {
				t.Fatal("the secret is not found before it is erased")
			}
			if _, err := l.erase(es.Erasure{Stream: "user-1", Audit: es.NewMessage("audit-1", "Erased", nil)}, es.Limits{}); err != nil {
				t.Fatal(err)
			}
			if _, found := l.logBytes("the secret"); found {
				t.Errorf("%d bytes, %d events later: what was erased is still in memory", size, later)
			}
		}
	}
}

// TestHiddenEventsGiveMemoryBack hides long streams of small and of large events, and finds little left of them.
func TestHiddenEventsGiveMemoryBack(t *testing.T) {
	t.Parallel()
	const events, stub = 1000, 60
	for name, edit := range map[string]func(l *eventLog){
		"truncate": func(l *eventLog) { l.truncate("long-1", events) },
		"delete":   func(l *eventLog) { l.delete("long-1", es.SoftDelete) },
	} {
		for _, payload := range []int{500, blobBytes} {
			l := newEventLog()
			for i := range events {
				m := es.NewMessage("long-1", fmt.Sprintf("Happened%d", i), make([]byte, payload))
				m.Tags = []string{fmt.Sprintf("tag:%d", i)}
				mustAppend(t, l, "long-1", m)
			}
			edit(l)
			if size, _ := l.logBytes(""); size > events*stub+2*chunkBytes {
				t.Errorf("%s: the log keeps %d bytes of %d hidden events of %d bytes", name, size, events, payload)
			}
			if tags, names := len(l.tags.refs), len(l.names.refs); tags > 1 || names > 1 {
				t.Errorf("%s: %d tags and %d names are remembered", name, tags, names)
			}
		}
	}
}

// TestChunksAreFilled edits after each event: what is left of the events fills up the chunks all the same.
func TestChunksAreFilled(t *testing.T) {
	t.Parallel()
	const events, left = 1000, 200
	for name, edit := range map[string]func(l *eventLog, version int64){
		"truncate": func(l *eventLog, version int64) { l.truncate("short-1", version) },
		"erase": func(l *eventLog, version int64) {
			e := es.Erasure{Stream: "short-1", Versions: []int64{version}, Audit: es.NewMessage("audit-1", "Erased", nil)}
			if _, err := l.erase(e, es.Limits{}); err != nil {
				t.Error(err)
			}
		},
	} {
		l := newEventLog()
		for i := range events {
			mustAppend(t, l, "short-1", es.NewMessage("short-1", "Happened", make([]byte, 500)))
			edit(l, int64(i+1))
		}
		if size, _ := l.logBytes(""); size > events*left+2*chunkBytes {
			t.Errorf("%s: the log keeps %d bytes of %d events", name, size, events)
		}
		if n := len(l.chunks); n > 12 {
			t.Errorf("%s: the log has %d chunks for %d small events", name, n, events)
		}
	}
}

// TestAppendForTheOutbox holds what Forward relies on: its append checks everything by itself.
func TestAppendForTheOutbox(t *testing.T) {
	t.Parallel()
	l := newEventLog()
	m := es.NewMessage("stream-1", "Happened", make([]byte, 11))
	if _, err := l.append(es.AppendTo("stream-1", es.Any, m), es.Limits{EventBytes: 10}); !es.Permanent(err) {
		t.Errorf("an event that is too large gives %v", err)
	}
	done, err := l.append(es.AppendTo("stream-1", es.Any, m), es.Limits{EventBytes: 11})
	if err != nil || done.Position != 1 {
		t.Errorf("got %+v, %v", done, err)
	}
}

func TestFullLog(t *testing.T) {
	t.Parallel()
	l := newEventLog()
	l.last = maxPosition
	m := es.NewMessage("stream-1", "Happened", nil)
	if _, err := l.append(es.AppendTo("stream-1", es.Any, m), es.Limits{}); err == nil {
		t.Error("a position was given out behind the last there is")
	}
}

func mustAppend(t *testing.T, l *eventLog, stream string, events ...*es.Message) es.Appended {
	t.Helper()
	done, err := l.append(es.AppendTo(stream, es.Any, events...), es.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	return done
}
