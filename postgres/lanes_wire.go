package postgres

import (
	"encoding/binary"

	"github.com/google/uuid"

	es "github.com/eventsourcing-go/eventsourcing"
)

// The OIDs of PostgreSQL's built-in types, of which arrays are made.
const (
	oidBytea   = 17
	oidBigint  = 20
	oidInteger = 23
	oidText    = 25
	oidUUID    = 2950
)

// wire writes the arguments of a statement as PostgreSQL takes them in binary. Its room is used again and again.
type wire struct {
	buf    []byte
	bounds []int // where each argument begins; -1 where it is NULL
	params [][]byte
}

func (w *wire) reset() { w.buf, w.bounds = w.buf[:0], w.bounds[:0] }

// begin begins an argument.
func (w *wire) begin() { w.bounds = append(w.bounds, len(w.buf)) }

// null is an argument that is NULL.
func (w *wire) null() { w.bounds = append(w.bounds, -1) }

// values returns the arguments. They are good until the next reset.
func (w *wire) values() [][]byte {
	w.params = w.params[:0]
	end := len(w.buf)
	for range w.bounds {
		w.params = append(w.params, nil)
	}
	for i := len(w.bounds) - 1; i >= 0; i-- {
		if from := w.bounds[i]; from >= 0 {
			w.params[i], end = w.buf[from:end:end], from
		}
	}
	return w.params
}

func (w *wire) int64(v int64) { w.buf = binary.BigEndian.AppendUint64(w.buf, uint64(v)) } //nolint:gosec // as it is, bit by bit
func (w *wire) int32(v int32) { w.buf = binary.BigEndian.AppendUint32(w.buf, uint32(v)) } //nolint:gosec // as it is, bit by bit
func (w *wire) text(s string) { w.buf = append(w.buf, s...) }

// array begins an argument that is an array of n elements, which may be NULL.
func (w *wire) array(oid int32, n int) {
	w.begin()
	w.arrayHeader(oid, n)
}

func (w *wire) arrayHeader(oid int32, n int) {
	if n == 0 {
		w.int32(0) // no dimensions
		w.int32(0)
		w.int32(oid)
		return
	}
	w.int32(1) // dimensions
	w.int32(1) // there may be NULLs
	w.int32(oid)
	w.int32(int32(n)) //nolint:gosec // there are less
	w.int32(1)        // the number of the first
}

// What follows are elements of an array.

func (w *wire) nullElement() { w.int32(-1) }

func (w *wire) int64Element(v int64) {
	w.int32(8)
	w.int64(v)
}

func (w *wire) int32Element(v int32) {
	w.int32(4)
	w.int32(v)
}

func (w *wire) textElement(s string) {
	w.int32(int32(len(s))) //nolint:gosec // texts are shorter
	w.text(s)
}

// textUnless writes a text, and NULL for the one that NULL stands for.
func (w *wire) textUnless(s, null string) {
	if s == null {
		w.nullElement()
		return
	}
	w.textElement(s)
}

func (w *wire) bytesElement(b []byte) {
	w.int32(int32(len(b))) //nolint:gosec // the limits are below
	w.buf = append(w.buf, b...)
}

func (w *wire) idElement(id uuid.UUID) { w.bytesElement(id[:]) }

// element begins an element whose length is told by endElement.
func (w *wire) element() (mark int) {
	w.int32(0)
	return len(w.buf)
}

func (w *wire) endElement(mark int) {
	binary.BigEndian.PutUint32(w.buf[mark-4:], uint32(len(w.buf)-mark)) //nolint:gosec // it is short
}

// tagsElement writes tags as PostgreSQL reads an array of texts, because arrays cannot have arrays of different lengths in them.
func (w *wire) tagsElement(tags []string) {
	if len(tags) == 0 {
		w.nullElement()
		return
	}
	mark := w.element()
	for i, tag := range tags {
		w.buf = append(w.buf, "{,"[min(i, 1)], '"')
		for at := range len(tag) {
			if tag[at] == '"' || tag[at] == '\\' {
				w.buf = append(w.buf, '\\')
			}
			w.buf = append(w.buf, tag[at])
		}
		w.buf = append(w.buf, '"')
	}
	w.buf = append(w.buf, '}')
	w.endElement(mark)
}

// columns writes events as the arguments of a statement, an array for each column. The order is that of [givenColumns].
func (w *wire) columns(events []*es.Message) {
	column := func(oid int32, write func(m *es.Message)) {
		w.array(oid, len(events))
		for _, m := range events {
			write(m)
		}
	}
	column(oidText, func(m *es.Message) { w.textElement(es.Category(m.Stream)) })
	column(oidUUID, func(m *es.Message) { w.idElement(m.ID) })
	column(oidText, func(m *es.Message) { w.textElement(m.Stream) })
	column(oidText, func(m *es.Message) { w.textElement(m.Name) })
	column(oidInteger, func(m *es.Message) { w.int32Element(int32(m.Schema)) }) //nolint:gosec // a valid schema fits
	column(oidBigint, func(m *es.Message) { w.int64Element(micros(m.Time)) })
	column(oidText, func(m *es.Message) { w.textUnless(m.CorrelationID, "") })
	column(oidText, func(m *es.Message) { w.textUnless(m.CausationID, "") })
	column(oidText, func(m *es.Message) { w.textUnless(m.ContentType, es.ContentTypeJSON) })
	column(oidText, func(m *es.Message) { w.tagsElement(m.Tags) })
	column(oidText, func(m *es.Message) { w.textUnless(encodeMetadata(m.Metadata), "") })
	column(oidBytea, func(m *es.Message) {
		if len(m.Data) == 0 {
			w.nullElement()
			return
		}
		w.bytesElement(m.Data)
	})
}

// scalars writes one event as the arguments of a statement, one for each column. The order is that of [givenColumns].
func (w *wire) scalars(m *es.Message) {
	w.argument(es.Category(m.Stream), "")
	w.begin()
	w.buf = append(w.buf, m.ID[:]...)
	w.argument(m.Stream, "")
	w.argument(m.Name, "")
	w.begin()
	w.int32(int32(m.Schema)) //nolint:gosec // a valid schema fits
	w.begin()
	w.int64(micros(m.Time))
	w.argument(m.CorrelationID, "")
	w.argument(m.CausationID, "")
	w.argument(m.ContentType, es.ContentTypeJSON)
	if len(m.Tags) == 0 {
		w.null()
	} else {
		w.array(oidText, len(m.Tags))
		for _, tag := range m.Tags {
			w.textElement(tag)
		}
	}
	w.argument(encodeMetadata(m.Metadata), "")
	if len(m.Data) == 0 {
		w.null()
		return
	}
	w.begin()
	w.buf = append(w.buf, m.Data...)
}

// argument is a text, and NULL for the one that NULL stands for.
func (w *wire) argument(text, null string) {
	if text == null {
		w.null()
		return
	}
	w.begin()
	w.text(text)
}
