package estest

import (
	"bytes"
	"fmt"
	"maps"
	"slices"

	es "github.com/eventsourcing-go/eventsourcing"
)

// differMessage says how two messages differ in what their maker sets, or nothing when they do not.
func differMessage(got, want *es.Message) string {
	switch {
	case got.ID != want.ID:
		return fmt.Sprintf("the ID is %s, want %s", got.ID, want.ID)
	case got.Name != want.Name:
		return fmt.Sprintf("the name is %q, want %q", got.Name, want.Name)
	case got.Schema != want.Schema:
		return fmt.Sprintf("the schema is %d, want %d", got.Schema, want.Schema)
	case got.Stream != want.Stream:
		return fmt.Sprintf("the stream is %q, want %q", got.Stream, want.Stream)
	case !got.Time.Equal(want.Time):
		return fmt.Sprintf("the time is %v, want %v", got.Time, want.Time)
	case got.CorrelationID != want.CorrelationID:
		return fmt.Sprintf("the correlation ID is %q, want %q", got.CorrelationID, want.CorrelationID)
	case got.CausationID != want.CausationID:
		return fmt.Sprintf("the causation ID is %q, want %q", got.CausationID, want.CausationID)
	case !slices.Equal(got.Tags, want.Tags):
		return fmt.Sprintf("the tags are %q, want %q", got.Tags, want.Tags)
	case !maps.Equal(got.Metadata, want.Metadata):
		return fmt.Sprintf("the metadata is %q, want %q", got.Metadata, want.Metadata)
	case got.ContentType != want.ContentType:
		return fmt.Sprintf("the content type is %q, want %q", got.ContentType, want.ContentType)
	case !bytes.Equal(got.Data, want.Data):
		return fmt.Sprintf("the data is %.60q (%d bytes), want %.60q (%d bytes)", got.Data, len(got.Data), want.Data, len(want.Data))
	}
	return ""
}
