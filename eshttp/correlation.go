package eshttp

import (
	"maps"
	"net/http"
	"strings"

	es "github.com/eventsourcing-go/eventsourcing"
)

// CorrelationName is the header that has the ID of the conversation that a request belongs to.
const CorrelationName = "X-Correlation-ID"

// Correlation returns a handler whose requests say where their work comes from ([es.Origin]): what is enqueued, and what commands
// lead to, can then be followed back to the request. The correlation ID is that of the header X-Correlation-ID, when it is 1 to 128
// characters of printable ASCII, and a new one otherwise; the answer has it in the same header. A traceparent that follows the form of
// W3C Trace Context, level 1, and its tracestate become metadata of those names.
//
// The sender chooses the ID. Where strangers must not be able to join the conversation of others, remove the header before.
func Correlation(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		origin, _ := es.OriginFrom(r.Context())
		origin.CorrelationID = r.Header.Get(CorrelationName)
		if !plain(origin.CorrelationID, 128) {
			origin.CorrelationID = es.NewID().String()
		}
		if parent := r.Header.Get("Traceparent"); validTraceparent(parent) {
			trace := map[string]string{"traceparent": parent}
			if state := strings.Join(r.Header.Values("Tracestate"), ","); plain(state, 512) {
				trace["tracestate"] = state
			}
			maps.Copy(trace, without(origin.Metadata, "traceparent", "tracestate"))
			origin.Metadata = trace
		}
		w.Header().Set(CorrelationName, origin.CorrelationID)
		next.ServeHTTP(w, r.WithContext(es.WithOrigin(r.Context(), origin)))
	})
}

// without returns a copy of a map that lacks some keys.
func without(m map[string]string, keys ...string) map[string]string {
	c := maps.Clone(m)
	for _, key := range keys {
		delete(c, key)
	}
	return c
}

// plain tells whether a text is 1 to most characters of printable ASCII.
func plain(text string, most int) bool {
	if text == "" || len(text) > most {
		return false
	}
	for i := range len(text) {
		if c := text[i]; c < ' ' || c > '~' {
			return false
		}
	}
	return true
}

// validTraceparent tells whether a text has the form version-trace-parent-flags, in lower-case hexadecimal digits, with an ID of the
// trace and of the parent that are not zero (W3C Trace Context, section 3.2). Later versions may have more behind it.
func validTraceparent(text string) bool {
	parts := strings.Split(text, "-")
	if len(parts) < 4 || parts[0] == "ff" || parts[0] == "00" && len(parts) != 4 || !plain(text, 256) {
		return false
	}
	for i, size := range [...]int{2, 32, 16, 2} {
		if len(parts[i]) != size || strings.Trim(parts[i], "0123456789abcdef") != "" {
			return false
		}
	}
	return strings.Trim(parts[1], "0") != "" && strings.Trim(parts[2], "0") != ""
}
