package eshttp

import (
	"iter"
	"net/http"
)

// WriteList answers {"name":[value,...]}, where as gives what to write of each value, in JSON. It writes the values as they
// come, so that a long list takes no memory.
//
// An error before the first value is answered by [Error]. One that comes later aborts the answer, because its status has been
// sent and half a list must not look like a whole one: the connection is closed, by a panic with [http.ErrAbortHandler].
func WriteList[T any](w http.ResponseWriter, r *http.Request, name string, values iter.Seq2[T, error], as func(T) any) {
	var begin []byte // what stands before the first value, until it was written
	key, err := encode(name)
	if err == nil {
		begin = append(append([]byte{'{'}, key...), ":["...)
		next := begin
		for value, failed := range values {
			var data []byte
			if err = failed; err == nil {
				data, err = encode(as(value))
			}
			if err != nil {
				break
			}
			if begin != nil {
				w.Header().Set("Content-Type", "application/json")
				w.Header().Set("X-Content-Type-Options", "nosniff")
				begin = nil
			}
			if _, gone := w.Write(append(next, data...)); gone != nil {
				return // nobody listens any more
			}
			next = append(next[:0], ',')
		}
	}
	switch {
	case err != nil && begin == nil:
		panic(http.ErrAbortHandler)
	case err != nil:
		Error(w, r, err)
		return
	case begin != nil: // an empty list
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		_, _ = w.Write(begin)
	}
	_, _ = w.Write([]byte("]}\n"))
}
