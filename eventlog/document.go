package eventlog

import (
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/google/uuid"

	es "github.com/eventsourcing-go/eventsourcing"
)

// record is the document of a partition: what its group has handled, and who owns it.
type record struct {
	incarnation uuid.UUID // of the store that the positions are of
	owner       string    // the member; empty when nobody has it
	token       int64     // of the owner's lease
	epoch       int64     // rises with every owner
	// high is where the partition was read to: what is not in open and stands at or below it is handled.
	high int64
	open []entry
}

// entry is a message that is not handled.
type entry struct {
	position int64
	// attempt is 0 for a message that nobody was given yet. Of such a one nothing else is known.
	attempt   int32
	first     int64 // when it was handed out first, in Unix microseconds
	notBefore int64 // it waits until then, in Unix microseconds; 0 when it does not wait
	out       bool  // the owner handed it out, and got no answer
	suspicion suspicion
}

// mark is the low-water mark: everything at or below it is handled.
func (r *record) mark() int64 {
	if len(r.open) > 0 {
		return r.open[0].position - 1
	}
	return r.high
}

// recordFormat is the first byte of a record. A record of another format is left alone: a newer program made it.
const recordFormat = 1

// The flags of an entry.
const (
	flagOut = 1 << iota
	flagWaits
	flagOverdue
	flagCrashed
)

var (
	errRecord = errors.New("the document of the partition cannot be read")
	errNewer  = errors.New("the document of the partition was written by a newer version of this package")
)

// appendHead appends what stands before the entries of a record.
func (r *record) appendHead(to []byte) []byte {
	to = append(to, recordFormat)
	to = append(to, r.incarnation[:]...)
	to = binary.AppendUvarint(to, uint64(len(r.owner)))
	to = append(to, r.owner...)
	to = binary.AppendVarint(to, r.token)
	to = binary.AppendVarint(to, r.epoch)
	return binary.AppendVarint(to, r.high)
}

// entryWriter appends entries in the order of their positions, each as the difference to the one before.
type entryWriter struct {
	to              []byte
	position, first int64
}

func (w *entryWriter) put(e entry) {
	distance := uint64(e.position-w.position) << 1 //nolint:gosec // positions rise
	w.position = e.position
	if e.attempt == 0 {
		w.to = binary.AppendUvarint(w.to, distance)
		return
	}
	w.to = binary.AppendUvarint(w.to, distance|1)
	flags := byte(0)
	if e.out {
		flags |= flagOut
	}
	if e.notBefore != 0 {
		flags |= flagWaits
	}
	switch e.suspicion {
	case overdue:
		flags |= flagOverdue
	case crashed:
		flags |= flagCrashed
	case trusted:
	}
	w.to = append(w.to, flags)
	w.to = binary.AppendVarint(w.to, int64(e.attempt))
	w.to = binary.AppendVarint(w.to, e.first-w.first)
	w.first = e.first
	if e.notBefore != 0 {
		w.to = binary.AppendVarint(w.to, e.notBefore)
	}
}

// end appends what stands behind the entries: a distance of 0, which no entry has.
func (w *entryWriter) end() []byte { return append(w.to, 0) }

// encode returns a record as a document.
func (r *record) encode() []byte {
	w := entryWriter{to: r.appendHead(nil)}
	for _, e := range r.open {
		w.put(e)
	}
	return w.end()
}

// recordReader takes a document apart. After the first mistake it gives zeros.
type recordReader struct {
	data   []byte
	broken bool
}

func (d *recordReader) take(n int) []byte {
	if n < 0 || n > len(d.data) {
		d.broken = true
		d.data = nil
		return nil
	}
	taken := d.data[:n]
	d.data = d.data[n:]
	return taken
}

func (d *recordReader) uvarint() uint64 {
	v, n := binary.Uvarint(d.data)
	if n <= 0 {
		n = -1
	}
	if d.take(n) == nil {
		return 0
	}
	return v
}

func (d *recordReader) varint() int64 {
	v, n := binary.Varint(d.data)
	if n <= 0 {
		n = -1
	}
	if d.take(n) == nil {
		return 0
	}
	return v
}

func (d *recordReader) octet() byte {
	b := d.take(1)
	if b == nil {
		return 0
	}
	return b[0]
}

// decodeRecord reads the document of a partition.
func decodeRecord(data []byte) (record, error) {
	d := recordReader{data: data}
	var r record
	if format := d.octet(); format != recordFormat {
		if format > recordFormat && !d.broken {
			return r, errNewer
		}
		return r, errRecord
	}
	copy(r.incarnation[:], d.take(len(r.incarnation)))
	r.owner = string(d.take(int(d.uvarint()))) //nolint:gosec // a length that is out of range is noticed
	r.token, r.epoch, r.high = d.varint(), d.varint(), d.varint()
	var position, first int64
	for {
		distance := d.uvarint()
		if distance == 0 {
			break
		}
		e := entry{position: position + int64(distance>>1)}
		if e.position <= position || e.position > r.high {
			return r, errRecord
		}
		position = e.position
		if distance&1 != 0 {
			flags := d.octet()
			e.out = flags&flagOut != 0
			switch {
			case flags&flagCrashed != 0:
				e.suspicion = crashed
			case flags&flagOverdue != 0:
				e.suspicion = overdue
			}
			e.attempt = int32(d.varint()) //nolint:gosec // it is checked below
			first += d.varint()
			e.first = first
			if flags&flagWaits != 0 {
				e.notBefore = d.varint()
			}
			if e.attempt < 1 {
				return r, errRecord
			}
		}
		r.open = append(r.open, e)
	}
	if d.broken || len(d.data) > 0 || r.high < 0 {
		return r, errRecord
	}
	return r, nil
}

// groupDocument says what a group is. It is written when the group begins, and when somebody resets it.
type groupDocument struct {
	Format      int       `json:"format"`
	Topic       string    `json:"topic"`
	Group       string    `json:"group"`
	Partitions  int       `json:"partitions"`
	Incarnation uuid.UUID `json:"incarnation"`
	// Start is the position behind which the group begins, and where a partition begins again whose document cannot be read.
	Start int64 `json:"start"`
	// Only is what the subscription that began the group was restricted to; see [Log.Only].
	Only []storedCriterion `json:"only,omitempty"`
	// Key is what the messages are ordered by, as far as that can be told; empty until somebody subscribes after a reset.
	Key orderedBy `json:"key,omitempty"`
}

// orderedBy is a kind of ordering key.
type orderedBy string

const (
	byStream   orderedBy = "stream"
	byFunction orderedBy = "function" // one cannot be told from another
)

func orderOf(key func(*es.Message) string) orderedBy {
	if key == nil {
		return byStream
	}
	return byFunction
}

const groupFormat = 1

func decodeGroup(data []byte) (groupDocument, error) {
	var d groupDocument
	if err := json.Unmarshal(data, &d); err != nil {
		return d, fmt.Errorf("the document of the group cannot be read: %w", err)
	}
	if d.Format != groupFormat || d.Partitions < 1 || d.Partitions > maxPartitions {
		return d, fmt.Errorf("the document of the group has format %d and %d partitions; this version reads format %d",
			d.Format, d.Partitions, groupFormat)
	}
	return d, nil
}

// memberDocument says who a member is and how far it has read. It is written with every change of the partitions it owns.
type memberDocument struct {
	Name  string `json:"name"`
	Token int64  `json:"token"` // of its lease
	Owned []int  `json:"owned"` // its partitions
	// Covered is a position up to which what its partitions' documents do not call open is handled.
	Covered int64 `json:"covered"`
}

// appendCovered appends the document of a member, of which all but the position has been encoded before.
func appendCovered(to, head []byte, covered int64) []byte {
	to = append(to, head...)
	to = strconv.AppendInt(to, covered, 10)
	return append(to, '}')
}

// memberHead encodes the document of a member but for the position.
func memberHead(d memberDocument) ([]byte, error) {
	d.Covered = 0
	whole, err := json.Marshal(d)
	if err != nil {
		return nil, fmt.Errorf("encode the document of member %q: %w", d.Name, err)
	}
	return whole[:len(whole)-len("0}")], nil
}

// groupKeys are the names of the documents of a group, and of its leases. A topic and a group are too long, together, for a name,
// so that it has a digest of both.
type groupKeys struct {
	model  string
	digest string
}

func (k groupKeys) group() string              { return "group/" + k.digest }
func (k groupKeys) members() string            { return "member/" + k.digest + "/" }
func (k groupKeys) member(id string) string    { return k.members() + id }
func (k groupKeys) partition(n int) string     { return fmt.Sprintf("partition/%s/%04d", k.digest, n) }
func (k groupKeys) lease(member string) string { return k.model + "/" + k.digest + "/" + member }

func (k groupKeys) partitions(n int) []string {
	keys := make([]string, n)
	for i := range keys {
		keys[i] = k.partition(i)
	}
	return keys
}

func keysOf(model, topic, group string) groupKeys {
	id := uuid.NewSHA1(uuid.Nil, fmt.Appendf(nil, "%d:%s%s", len(topic), topic, group))
	return groupKeys{model: model, digest: hex.EncodeToString(id[:])}
}
