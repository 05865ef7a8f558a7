package sqlite_test

import (
	"context"
	"flag"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/sqlite"
)

var maintainedEvents = flag.Int("maintain.events", 100_000, "how many events the file of BenchmarkMaintenance has")

// BenchmarkMaintenance measures what is done with a whole file, of events with a tag and 200 bytes of payload, five in a stream.
func BenchmarkMaintenance(b *testing.B) {
	config := sqlite.Config{Path: filepath.Join(b.TempDir(), "items.db"), Synchronous: sqlite.Normal}
	db, err := sqlite.Open(config)
	must(b, err)
	payload := []byte(`"` + strings.Repeat("x", 198) + `"`)
	for n := 0; n < *maintainedEvents; n += 1000 {
		var batch []es.Append
		for i := range 200 {
			stream := fmt.Sprintf("order-%d", n/5+i)
			var events []*es.Message
			for range 5 {
				m := es.NewMessage(stream, "Placed", payload)
				m.Tags = []string{fmt.Sprint("customer:", i)}
				events = append(events, m)
			}
			batch = append(batch, es.AppendTo(stream, es.Any, events...))
		}
		for _, o := range db.Events().AppendEach(context.Background(), batch) {
			must(b, o.Err)
		}
	}
	copies := 0
	b.Run("backup", func(b *testing.B) {
		for b.Loop() {
			copies++
			must(b, db.Backup(context.Background(), fmt.Sprint(config.Path, copies)))
		}
		perEvent(b)
	})
	must(b, db.Close())
	b.Run("check", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			report, err := sqlite.Check(context.Background(), config)
			must(b, err)
			must(b, report.Err())
		}
		perEvent(b)
	})
	b.Run("reindex", func(b *testing.B) {
		for b.Loop() {
			must(b, sqlite.Reindex(context.Background(), config))
		}
		perEvent(b)
	})
}

func perEvent(b *testing.B) {
	b.Helper()
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(*maintainedEvents), "ns/event")
}
