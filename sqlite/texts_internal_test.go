package sqlite

import (
	"fmt"
	"maps"
	"strings"
	"testing"

	lite "zombiezen.com/go/sqlite"
)

// Texts that take each other's places, and such as are too long to be kept, are read as they stand there, again and again.
func TestTextsAreReadAsTheyStandThere(t *testing.T) {
	t.Parallel()
	table := newMessageTable(t)
	for n := range 3000 {
		text := fmt.Sprint("text ", n%700)
		if n%5 == 0 {
			text = strings.Repeat("ü", n%300) // some of 255 bytes, 256 and more
		}
		want := map[string]string{"key": text}
		table.must(table.conn.query(func(stmt *lite.Stmt) error {
			if got := table.conn.texts.column(stmt, 0); got != text {
				t.Errorf("%q was read as %q", text, got)
			}
			got, err := table.conn.texts.metadataColumn(stmt, 1)
			if err != nil || !maps.Equal(got, want) {
				t.Errorf("%q was read as %q: %v", want, got, err)
			}
			return nil
		}, "SELECT ?, ?", text, encodeMetadata(want)))
	}
}

func TestTextsThatRepeatAreNotCopied(t *testing.T) {
	table := newMessageTable(t)
	table.must(table.conn.query(func(stmt *lite.Stmt) error {
		got := testing.AllocsPerRun(100, func() {
			table.conn.texts.column(stmt, 0)
			if _, err := table.conn.texts.metadataColumn(stmt, 1); err != nil {
				t.Error(err)
			}
		})
		if got > 0 {
			t.Errorf("%v allocations", got)
		}
		return nil
	}, "SELECT ?, ?", "OrderPlaced", `{"tenant":"tenant-1"}`))
}
