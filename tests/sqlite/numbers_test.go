package sqlite_test

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/google/uuid"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/sqlite"
)

// topic is the category of the streams that child processes write to.
const topic = "numbers"

// streamsPerChild is how many streams a child process adds messages to.
const streamsPerChild = 3

// numbers are the messages that a job adds, in turns to each of its streams. They are always the same, so that a job that was killed
// is simply done again.
func (j job) numbers() []*es.Message {
	var msgs []*es.Message
	for n := j.First; n <= j.Last; n++ {
		for i := range streamsPerChild {
			msgs = append(msgs, number(fmt.Sprintf("%s-%d%d", topic, j.Child, i), n))
		}
	}
	return msgs
}

// number is the n-th message of a stream.
func number(stream string, n int) *es.Message {
	m := es.NewMessage(stream, "Counted", fmt.Append(nil, n))
	m.ID = uuid.NewSHA1(uuid.Nil, fmt.Appendf(nil, "%s/%d", stream, n))
	return m
}

// numberOf reads which message it is.
func numberOf(m *es.Message) int {
	n := 0
	if err := json.Unmarshal(m.Data, &n); err != nil {
		return -1
	}
	return n
}

// openFile opens the file of a crash in the end. It must be whole.
func (c *crash) openFile(namespace string) *sqlite.DB {
	c.Helper()
	report, err := sqlite.Check(c.Context(), sqlite.Config{Path: c.path})
	if err == nil {
		err = report.Err()
	}
	if err != nil {
		c.Errorf("the file is not whole: %v", err)
	}
	db, err := sqlite.Open(sqlite.Config{Path: c.path, Namespace: namespace})
	if err != nil {
		c.Fatal(err)
	}
	c.Cleanup(func() {
		if err := db.Close(); err != nil {
			c.Errorf("close: %v", err)
		}
	})
	return db
}

// readNumbers reads the numbers of a category, by stream.
func (c *crash) readNumbers(db *sqlite.DB, category string) map[string][]int {
	c.Helper()
	found := map[string][]int{}
	for m, err := range db.Events().Read(c.Context(), es.Query{Category: category}) {
		if err != nil {
			c.Fatal(err)
		}
		found[m.Stream] = append(found[m.Stream], numberOf(m))
	}
	return found
}

// wantNumbers looks whether each stream has the numbers from 1 on, each once and in order.
func (c *crash) wantNumbers(what string, found map[string][]int, children, last int) {
	c.Helper()
	if len(found) != children*streamsPerChild {
		c.Errorf("%s: there are %d streams, want %d of each of %d children", what, len(found), streamsPerChild, children)
	}
	want := make([]int, last)
	for i := range want {
		want[i] = i + 1
	}
	for stream, numbers := range found {
		if !slices.Equal(numbers, want) {
			c.Errorf("%s: stream %s has %v, want 1 to %d", what, stream, numbers, last)
		}
	}
}

// wantEmptyOutbox looks whether nothing was left in the outbox.
func (c *crash) wantEmptyOutbox(db *sqlite.DB) {
	c.Helper()
	if stats, err := db.Outbox().Stats(c.Context()); err != nil || stats.Depth != 0 || stats.Dead != 0 {
		c.Errorf("the outbox has %+v (%v)", stats, err)
	}
}
