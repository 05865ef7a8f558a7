package postgres

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	es "github.com/eventsourcing-go/eventsourcing"
)

// decoder makes messages of rows. Messages that are read one after the other share memory.
type decoder struct {
	texts    texts
	messages []es.Message // what is free of a piece of memory; so are the following
	tags     []string
	data     []byte

	correlation, causation string // of the last message: those of the same append have the same ones
}

// How many messages share a piece of memory, and how many tags.
const (
	pieceMessages = 36 // 8 KiB
	pieceTags     = 128
)

func newDecoder() *decoder { return &decoder{texts: newTexts()} }

// decoder returns a decoder, which is to be released.
func (r *reads) decoder() *decoder {
	if d, ok := r.decoders.Get().(*decoder); ok {
		return d
	}
	return newDecoder()
}

// release takes a decoder back, for the next reader.
func (r *reads) release(d *decoder) {
	d.texts.forget()
	d.correlation, d.causation = "", ""
	r.decoders.Put(d)
}

// The columns of eventColumns.
const (
	positionColumn = iota
	versionColumn
	recordedColumn
	idColumn
	streamColumn
	nameColumn
	schemaColumn
	timeColumn
	correlationColumn
	causationColumn
	contentTypeColumn
	tagsColumn
	metadataColumn
	dataColumn
	columnCount
)

// events adds the events of rows of eventColumns to a page, and returns how many bytes they have. What is beyond the bytes of a page is
// left out.
func (d *decoder) events(rows pgx.Rows, page []*es.Message) ([]*es.Message, int, error) {
	bytes := 0
	read := d.scan
	if isBinary(rows) {
		read = d.decode
	}
	for rows.Next() {
		if bytes >= pageBytes {
			continue // a connection has to be read to the end, or closed
		}
		for _, value := range rows.RawValues() {
			bytes += len(value)
		}
		if len(d.messages) == 0 {
			d.messages = make([]es.Message, pieceMessages)
		}
		m := &d.messages[0]
		if err := read(rows, m); err != nil {
			return page, 0, fmt.Errorf("event at position %d: %w", m.Position, err)
		}
		d.messages = d.messages[1:]
		page = append(page, m)
	}
	return page, bytes, rows.Err()
}

// isBinary tells whether rows come in the binary format, which they do unless the pool was made for the simple protocol. In texts it makes
// no difference.
func isBinary(rows pgx.Rows) bool {
	columns := rows.FieldDescriptions()
	if len(columns) != columnCount {
		return false
	}
	for _, column := range []int{
		positionColumn, versionColumn, recordedColumn, idColumn, schemaColumn, timeColumn, tagsColumn, dataColumn,
	} {
		if columns[column].Format != pgx.BinaryFormatCode {
			return false
		}
	}
	return true
}

// scan reads a row in any format.
func (d *decoder) scan(rows pgx.Rows, m *es.Message) error {
	var row messageRow
	var position, version, recorded int64
	if err := rows.Scan(append([]any{&position, &version, &recorded}, row.fields()...)...); err != nil {
		return err
	}
	read, err := row.message()
	if err != nil {
		return err
	}
	*m = *read
	m.Position, m.Version, m.Recorded = position, version, timeAt(recorded)
	return nil
}

// decode reads a row in the binary format. It sets every field.
func (d *decoder) decode(rows pgx.Rows, m *es.Message) (err error) {
	raw := rows.RawValues()
	position, err1 := integer(raw[positionColumn])
	version, err2 := integer(raw[versionColumn])
	recorded, err3 := integer(raw[recordedColumn])
	schema, err4 := integer(raw[schemaColumn])
	happened, err5 := integer(raw[timeColumn])
	m.Position, m.Version = position, version
	if err := errors.Join(err1, err2, err3, err4, err5); err != nil {
		return err
	}
	if len(raw[idColumn]) != len(m.ID) {
		return fmt.Errorf("its ID has %d bytes, which is no UUID", len(raw[idColumn]))
	}
	copy(m.ID[:], raw[idColumn])
	m.Schema, m.Time, m.Recorded = int(schema), timeAt(happened), timeAt(recorded)
	m.Stream, m.Name = d.texts.shared(raw[streamColumn]), d.texts.shared(raw[nameColumn])
	if d.correlation != string(raw[correlationColumn]) {
		d.correlation = d.texts.copied(raw[correlationColumn])
	}
	if d.causation != string(raw[causationColumn]) {
		d.causation = d.texts.copied(raw[causationColumn])
	}
	m.CorrelationID, m.CausationID = d.correlation, d.causation
	m.ContentType = es.ContentTypeJSON
	if raw[contentTypeColumn] != nil {
		m.ContentType = d.texts.shared(raw[contentTypeColumn])
	}
	if m.Tags, err = d.textArray(raw[tagsColumn]); err != nil {
		return err
	}
	if m.Metadata, err = d.texts.decodeMetadata(raw[metadataColumn]); err != nil {
		return err
	}
	m.Data = d.bytes(raw[dataColumn])
	return nil
}

// integer reads an integer of 4 or 8 bytes; NULL is 0.
func integer(raw []byte) (int64, error) {
	switch len(raw) {
	case 0:
		return 0, nil
	case 4:
		return int64(int32(binary.BigEndian.Uint32(raw))), nil //nolint:gosec // it is how they are sent
	case 8:
		return int64(binary.BigEndian.Uint64(raw)), nil //nolint:gosec // it is how they are sent
	}
	return 0, fmt.Errorf("an integer has %d bytes", len(raw))
}

var errArray = errors.New("its tags are no array of texts")

// textArray reads an array of texts as PostgreSQL sends it: the number of dimensions, whether there are NULLs, the type of the elements,
// then of each dimension its length and lower bound, and then of each element its length and itself.
func (d *decoder) textArray(raw []byte) ([]string, error) {
	if len(raw) == 0 {
		return nil, nil
	}
	next := func() (n int) {
		if len(raw) < 4 {
			raw = nil
			return -1
		}
		n = int(int32(binary.BigEndian.Uint32(raw))) //nolint:gosec // it is how they are sent
		raw = raw[4:]
		return n
	}
	dimensions := next()
	next() // whether there are NULLs, which are seen
	next() // the type
	count := 0
	if dimensions != 0 {
		count = next()
		next() // the lower bound
	}
	if dimensions < 0 || dimensions > 1 || count < 0 || raw == nil || count > len(raw)/4 {
		return nil, errArray
	}
	if len(d.tags) < count {
		d.tags = make([]string, max(count, pieceTags))
	}
	tags := d.tags[:count:count]
	for i := range tags {
		length := next()
		if length < 0 || length > len(raw) {
			return nil, errArray
		}
		tags[i] = d.texts.shared(raw[:length])
		raw = raw[length:]
	}
	d.tags = d.tags[count:]
	if len(raw) != 0 {
		return nil, errArray
	}
	return nilIfEmpty(tags), nil
}

// bytes returns a copy of data.
func (d *decoder) bytes(raw []byte) []byte {
	n := len(raw)
	switch {
	case n == 0:
		return nil
	case n >= ownPiece:
		return append([]byte(nil), raw...)
	case len(d.data) < n:
		d.data = make([]byte, pieceBytes)
	}
	data := d.data[:n:n]
	copy(data, raw)
	d.data = d.data[n:]
	return data
}
