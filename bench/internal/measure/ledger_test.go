package measure_test

import (
	"math/rand/v2"
	"testing"

	"github.com/eventsourcing-go/eventsourcing/bench/internal/measure"
)

func TestLedgerFindsWhatWentWrong(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		keys int
		come []uint64 // of 8 messages
		want measure.Faults
		text string
	}{
		{"all in order", 2, []uint64{0, 1, 2, 3, 4, 5, 6, 7}, measure.Faults{}, "none"},
		{"keys beside each other", 2, []uint64{1, 3, 5, 7, 0, 2, 4, 6}, measure.Faults{}, "none"},
		{"one lost", 2, []uint64{0, 1, 2, 3, 5, 6, 7}, measure.Faults{Lost: 1}, "1 lost"},
		{"the last one lost", 1, []uint64{0, 1, 2, 3, 4, 5, 6}, measure.Faults{Lost: 1}, "1 lost"},
		{"all lost", 4, nil, measure.Faults{Lost: 8}, "8 lost"},
		{"one twice", 2, []uint64{0, 1, 2, 3, 3, 4, 5, 6, 7}, measure.Faults{Repeated: 1}, "1 handled twice"},
		{"one again later", 2, []uint64{0, 1, 2, 3, 4, 5, 6, 7, 0}, measure.Faults{Repeated: 1}, "1 handled twice"},
		{"two of a key exchanged", 2, []uint64{0, 1, 4, 3, 2, 5, 6, 7}, measure.Faults{Reordered: 1}, "1 out of order"},
		{"one overtaken by all", 1, []uint64{1, 2, 3, 4, 5, 6, 7, 0}, measure.Faults{Reordered: 1}, "1 out of order"},
		{"overtaken, and twice", 1, []uint64{1, 0, 0, 2, 3, 4, 5, 6, 7}, measure.Faults{Reordered: 1, Repeated: 1}, "1 handled twice, 1 out of order"},
		{"backwards", 1, []uint64{7, 6, 5, 4, 3, 2, 1, 0}, measure.Faults{Reordered: 7}, "7 out of order"},
		{"one that nobody sent", 2, []uint64{0, 1, 2, 3, 4, 5, 6, 7, 9}, measure.Faults{Repeated: 1}, "1 handled twice"},
		{
			"one for another", 1, []uint64{0, 1, 2, 2, 4, 5, 6, 7},
			measure.Faults{Lost: 1, Repeated: 1}, "1 lost, 1 handled twice",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			l := measure.NewLedger(8, test.keys)
			for _, message := range test.come {
				l.Take(message)
			}
			got := l.Close()
			if got != test.want || got.String() != test.text {
				t.Errorf("found %+v (%s), want %+v (%s)", got, got, test.want, test.text)
			}
			if got.Any() != (test.want != measure.Faults{}) {
				t.Errorf("Any is %t for %+v", got.Any(), got)
			}
		})
	}
}

// TestLedgerCountsWhatASlowOneWouldCount compares it with a plain count over shuffled messages, some lost and some twice.
func TestLedgerCountsWhatASlowOneWouldCount(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	for range 500 {
		n, keys := 1+random.IntN(200), 1+random.IntN(9)
		var come []uint64
		for i := range n {
			for range []int{0, 1, 1, 1, 2}[random.IntN(5)] {
				come = append(come, uint64(i))
			}
		}
		random.Shuffle(random.IntN(len(come)+1), func(i, j int) { come[i], come[j] = come[j], come[i] })
		l := measure.NewLedger(n, keys)
		for _, message := range come {
			l.Take(message)
		}
		if got, want := l.Close(), slowly(n, keys, come); got != want {
			t.Fatalf("of %d messages with %d keys came %v: found %+v, want %+v", n, keys, come, got, want)
		}
	}
}

func slowly(n, keys int, come []uint64) measure.Faults {
	var faults measure.Faults
	seen, last := map[uint64]bool{}, map[uint64]uint64{}
	for _, message := range come {
		key := message % uint64(keys)
		newest, known := last[key]
		switch {
		case seen[message]:
			faults.Repeated++
		case known && message < newest:
			faults.Reordered++
		}
		seen[message] = true
		last[key] = max(newest, message)
	}
	faults.Lost = int64(n - len(seen))
	return faults
}

func BenchmarkLedger(b *testing.B) {
	l := measure.NewLedger(b.N, 64)
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		l.Take(uint64(i))
	}
	if faults := l.Close(); faults.Any() {
		b.Fatal(faults)
	}
}
