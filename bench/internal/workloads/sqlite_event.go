package workloads

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"time"

	"github.com/google/uuid"

	es "github.com/eventsourcing-go/eventsourcing"
)

// The events of the workloads on files are as a program has them: 256 bytes of JSON, a UUIDv7, a correlation ID, a causation ID and
// an entry of metadata, the tenant, of which there are 16.
const (
	numberDigits  = 16
	numberAt      = len(`{"number":"`)
	storedStreams = 100_000
	tenantKey     = "tenant"
)

// newEvent makes an event that is used again and again.
func newEvent() *es.Message {
	data := fmt.Appendf(nil, `{"number":"%0*x","items":[`, numberDigits, 0)
	for i := 0; ; i++ {
		item := fmt.Sprintf(`{"item":%d,"pieces":%d},`, 1000+i, 1+i%9)
		if len(data)+len(item) > payloadBytes-20 {
			break
		}
		data = append(data, item...)
	}
	data = append(data[:len(data)-1], `],"note":"`...)
	for len(data) < payloadBytes-2 {
		data = append(data, 'x')
	}
	m := es.NewMessage(topic, "OrderPlaced", append(data, `"}`...))
	m.CorrelationID = correlation
	m.CausationID = correlation
	m.Metadata = map[string]string{}
	return m
}

// tenantOf is the tenant of the event of a number.
func tenantOf(n uint64) string {
	const (
		all = "tenant-0tenant-1tenant-2tenant-3tenant-4tenant-5tenant-6tenant-7tenant-8tenant-9tenant-atenant-btenant-ctenant-dtenant-etenant-f"
		one = len("tenant-0")
	)
	return all[n%(uint64(len(all)/one))*uint64(one):][:one]
}

// stamp makes m the event of a number, made at a time. Its ID rises with the time, as that of [uuid.NewV7] does, which takes much
// longer.
func stamp(m *es.Message, n uint64, at time.Time) {
	m.ID = stampedID(n, at)
	m.Metadata[tenantKey] = tenantOf(n)
	putHex(m.Data[numberAt:], n)
}

// stampedID has the milliseconds since 1970, the rest of the time in quarters of a microsecond, and scattered bits.
func stampedID(n uint64, at time.Time) (id uuid.UUID) {
	const perMilli = int64(time.Millisecond)
	nanos := at.UnixNano()
	milli, rest := nanos/perMilli, nanos%perMilli
	binary.BigEndian.PutUint64(id[:], uint64(milli<<16|0x7000|rest>>8)) //nolint:gosec // it is after 1970
	binary.BigEndian.PutUint64(id[8:], scatter(n))
	id[8] = id[8]&0x3f | 0x80
	return id
}

func putHex(dst []byte, n uint64) {
	const digits = "0123456789abcdef"
	for i := numberDigits - 1; i >= 0; i-- {
		dst[i] = digits[n&15]
		n >>= 4
	}
}

// stampedNumber reads the number of an event.
func stampedNumber(data []byte) (uint64, error) {
	if len(data) != payloadBytes {
		return 0, fmt.Errorf("an event has %d bytes where %d were written", len(data), payloadBytes)
	}
	return strconv.ParseUint(string(data[numberAt:numberAt+numberDigits]), 16, 64)
}

// streamName names the i-th stream. The names are as unlike each other as those of a program that gives its orders random IDs.
func streamName(i uint64) string {
	room := make([]byte, 0, len(topic)+1+numberDigits)
	room = append(room, topic...)
	room = append(room, '-')
	room = room[:cap(room)]
	putHex(room[len(topic)+1:], scatter(i))
	return string(room)
}
