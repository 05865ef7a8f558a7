package main

import (
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"net/http"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/eshttp"
)

// The largest file, and the largest request: the file, and what stands around it.
const (
	maxFile    = 10 << 20
	maxRequest = maxFile + 64<<10
)

// upload takes the file of a multipart request (RFC 7578) and puts an event that carries it into the outbox. When it answers, the
// prescription cannot be lost any more.
func upload(outbox es.Outbox) http.Handler {
	return eshttp.MaxBody(maxRequest, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		m, err := uploaded(r)
		if err == nil {
			err = outbox.Enqueue(r.Context(), m)
		}
		if err != nil {
			eshttp.Error(w, r, err)
			return
		}
		_ = eshttp.WriteJSON(w, http.StatusOK, map[string]any{
			"accepted": true, "prescription": m.Stream, "correlation_id": m.CorrelationID,
		})
	}))
}

// uploaded makes the event of a request.
func uploaded(r *http.Request) (*es.Message, error) {
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "multipart/form-data" {
		return nil, eshttp.Problemf(http.StatusUnsupportedMediaType,
			"the request is no multipart/form-data; send the file as its part \"file\"")
	}
	parts, err := r.MultipartReader()
	if err != nil {
		return nil, eshttp.Problemf(http.StatusBadRequest, "the request has no boundary between its parts")
	}
	for {
		part, err := parts.NextPart()
		switch {
		case errors.Is(err, io.EOF):
			return nil, es.Invalidf("file", "is missing; send it as the part \"file\"")
		case err != nil:
			return nil, broken(err)
		case part.FormName() == "file":
			return read(part)
		}
	}
}

func read(part *multipart.Part) (*es.Message, error) {
	data, err := io.ReadAll(io.LimitReader(part, maxFile+1))
	switch {
	case err != nil:
		return nil, broken(err)
	case len(data) > maxFile:
		return nil, eshttp.Problemf(http.StatusRequestEntityTooLarge, "the file is larger than the %d bytes that are allowed", maxFile)
	case len(data) == 0:
		return nil, es.Invalidf("file", "is empty")
	}
	m := es.NewMessage(topic+"-"+es.NewID().String(), uploadedName, data)
	m.CorrelationID = es.NewID().String()
	m.ContentType = part.Header.Get("Content-Type")
	if m.ContentType == "" || m.ContentType == "application/octet-stream" { // what a client says that does not know
		m.ContentType = http.DetectContentType(data)
	}
	if name := part.FileName(); name != "" {
		m.Metadata = map[string]string{"filename": name}
	}
	return m, nil
}

// broken is the problem of a request that could not be read to its end.
func broken(err error) error {
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		return err
	}
	return eshttp.Problemf(http.StatusBadRequest, "the parts of the request cannot be read: it ends early, or is broken")
}
