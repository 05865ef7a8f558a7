package estest

import (
	"bytes"
	"fmt"
	"strings"

	es "github.com/eventsourcing-go/eventsourcing"
)

func limitLines() []eventLine {
	return []eventLine{
		onEvents("E11", "event_bytes", limitEventBytes),
		onEvents("E11", "events_per_append", limitEventsPerAppend),
		onEvents("E11", "metadata_bytes", limitMetadata),
		onEvents("E11", "tags_per_event", limitTags),
	}
}

// overLimit makes an append that is over a limit: alone, and among others that are not.
func (b *eventBench) overLimit(a es.Append) {
	b.Helper()
	b.refused(a, es.ErrInvalid)
	before := b.all()
	fine := es.AppendTo("fine-1", es.Any, some("fine-1", 1)...)
	outcomes := b.store.AppendEach(b.ctx, []es.Append{a, fine})
	if len(outcomes) != 2 || !isInvalid(outcomes[0].Err) || outcomes[1].Err != nil {
		b.Fatalf("AppendEach of one over a limit and one that is not gives %+v", outcomes)
	}
	if after := b.all(); len(after) != len(before)+1 {
		b.Fatalf("AppendEach of one over a limit and one that is not adds %d events", len(after)-len(before))
	}
}

func limitEventBytes(b *eventBench) {
	most := b.limits().EventBytes
	m := made("big-1", "Big")
	m.Data = bytes.Repeat([]byte{0xa5}, most)
	b.put("big-1", es.NoStream, m)
	if got := b.stream("big-1"); len(got) != 1 || !bytes.Equal(got[0].Data, m.Data) {
		b.Fatalf("an event of %d bytes, as large as is allowed, comes back changed", most)
	}
	over := made("big-1", "Big")
	over.Data = bytes.Repeat([]byte{0xa5}, most+1)
	b.overLimit(es.AppendTo("big-1", es.Any, made("big-1", "Small"), over))
}

func limitEventsPerAppend(b *eventBench) {
	most := b.limits().EventsPerAppend
	events := some("many-1", most)
	b.put("many-1", es.NoStream, events...)
	b.holds("many-1", events...)
	b.overLimit(es.AppendTo("over-1", es.Any, some("over-1", most+1)...))
	b.overLimit(es.Append{Streams: []es.StreamAppend{ // over all its streams
		{Stream: "over-1", Events: some("over-1", most)}, {Stream: "over-2", Events: some("over-2", 1)},
	}})
}

func limitMetadata(b *eventBench) {
	most := b.limits().MetadataBytes
	with := func(size int) *es.Message {
		m := made("meta-1", "Happened")
		m.CorrelationID, m.CausationID = "correlation", "causation"
		size -= len(m.ContentType) + len(m.CorrelationID) + len(m.CausationID) + len("key") + len("k")
		m.Metadata = map[string]string{"key": strings.Repeat("v", size/2), "k": strings.Repeat("w", size-size/2)}
		return m
	}
	full := with(most)
	b.put("meta-1", es.NoStream, full)
	if diff := differMessage(b.few("meta-1", 1)[0], full); diff != "" {
		b.Fatalf("an event with %d bytes of metadata, as large as is allowed: %s", most, diff)
	}
	b.overLimit(es.AppendTo("meta-1", es.Any, with(most+1)))
	long := made("meta-1", "Happened") // the correlation ID counts, too
	long.CorrelationID = strings.Repeat("c", most-len(long.ContentType)+1)
	b.overLimit(es.AppendTo("meta-1", es.Any, long))
}

func limitTags(b *eventBench) {
	most := b.limits().TagsPerEvent
	with := func(n int) *es.Message {
		m := made("tags-1", "Happened")
		for i := range n {
			m.Tags = append(m.Tags, fmt.Sprintf("%0*d", es.MaxNameBytes, i))
		}
		return m
	}
	full := with(most)
	b.put("tags-1", es.NoStream, full)
	if got := b.read(es.Query{Stream: "tags-1", Tags: full.Tags}); len(got) != 1 || differMessage(got[0], full) != "" {
		b.Fatalf("an event with %d tags, as many as are allowed, is not found by them", most)
	}
	b.overLimit(es.AppendTo("tags-1", es.Any, with(most+1)))
}
