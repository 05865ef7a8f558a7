package eshttp

import (
	"encoding/base64"
	"encoding/binary"
	"math"
	"net/http"
	"net/url"
	"strings"

	"github.com/google/uuid"

	es "github.com/eventsourcing-go/eventsourcing"
)

// PositionName is the header in which [Command] answers with a position, and in which [Query] takes the one to wait for; as the query
// parameter es-position it is for those who cannot set headers. It is a name of its own, without the "X-" that RFC 6648 advises
// against, and no word that a service may have for something else, as "after" is for the page of a list.
const PositionName = "Es-Position"

// FormatPosition writes a checkpoint as a position for clients: a short text of letters, digits, "-" and "_". Clients hand it back as
// it is, and make nothing of what is in it. That is no secret: it can be taken apart, into the identity of the store and how many
// events it has had at most.
func FormatPosition(c es.Checkpoint) string {
	var b [24]byte
	copy(b[:], c.Incarnation[:])
	binary.BigEndian.PutUint64(b[16:], uint64(max(c.Position, 0)))
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// ParsePosition reads what [FormatPosition] has written. The error is a [*Problem] of status 400.
func ParsePosition(text string) (es.Checkpoint, error) {
	b, err := base64.RawURLEncoding.DecodeString(text) // which passes over line breaks
	if err != nil || len(text) != 32 || len(b) != 24 || binary.BigEndian.Uint64(b[16:]) > math.MaxInt64 {
		return es.Checkpoint{}, Problemf(http.StatusBadRequest, "the position %q cannot be read; send one that this service has given",
			shorten(text))
	}
	position := int64(binary.BigEndian.Uint64(b[16:])) //nolint:gosec // it was compared above
	return es.Checkpoint{Incarnation: uuid.UUID(b[:16]), Position: position}, nil
}

// requestedPosition returns the position that a request is to be answered after; zero when there is none.
func requestedPosition(r *http.Request) (es.Checkpoint, error) {
	text := r.Header.Get(PositionName)
	if text == "" {
		query, err := url.ParseQuery(r.URL.RawQuery)
		if err != nil { // a position may be in what was not understood
			return es.Checkpoint{}, Problemf(http.StatusBadRequest, "the query parameters cannot be read")
		}
		text = query.Get(strings.ToLower(PositionName))
	}
	if text == "" {
		return es.Checkpoint{}, nil
	}
	return ParsePosition(text)
}
