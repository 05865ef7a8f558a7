package sqlite

import (
	"github.com/cespare/xxhash/v2"
	lite "zombiezen.com/go/sqlite"
)

// texts reads texts of rows. Those that were read before, as names, tenants and the streams of a batch are again and again, it has kept,
// and makes no copy of them. It keeps few, and none that is long: a text that is new takes the place of another one.
type texts struct {
	buffer   [longestKept + 1]byte
	kept     [256]string
	metadata [64]keptMetadata
}

type keptMetadata struct {
	text string
	read map[string]string // of the text
}

const longestKept = 255

// column returns a column of text. It is empty for NULL.
func (t *texts) column(stmt *lite.Stmt, column int) string {
	n := stmt.ColumnBytes(column, t.buffer[:])
	if n == 0 {
		return ""
	}
	if n > longestKept {
		return stmt.ColumnText(column)
	}
	some := t.buffer[:n]
	place := &t.kept[xxhash.Sum64(some)%uint64(len(t.kept))]
	if *place != string(some) {
		*place = string(some)
	}
	return *place
}

// metadataColumn returns a column of metadata. Messages with the same metadata share it, as they are read-only.
func (t *texts) metadataColumn(stmt *lite.Stmt, column int) (map[string]string, error) {
	n := stmt.ColumnBytes(column, t.buffer[:])
	if n == 0 {
		return nil, nil //nolint:nilnil // it is what a message without metadata has
	}
	if n > longestKept {
		return decodeMetadata(stmt.ColumnText(column))
	}
	some := t.buffer[:n]
	place := &t.metadata[xxhash.Sum64(some)%uint64(len(t.metadata))]
	if place.text == string(some) {
		return place.read, nil
	}
	text := string(some)
	read, err := decodeMetadata(text)
	if err == nil {
		*place = keptMetadata{text, read}
	}
	return read, err
}
