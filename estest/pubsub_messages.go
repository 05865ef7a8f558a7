package estest

import (
	"bytes"
	"errors"
	"maps"
	"strings"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
)

func pubsubMessageLines() []Line[Harness[PubSub]] {
	return []Line[Harness[PubSub]]{
		pubsubLine("M2/every_field_survives", pubsubFieldsSurvive),
		pubsubLine("M2/any_bytes_and_a_mebibyte_survive", pubsubBytesSurvive),
		pubsubLine("M2/invalid_message_publishes_nothing", pubsubInvalidMessage),
		pubsubLine("M3/names_are_checked", pubsubNames),
		pubsubLine("M3/namespaces_see_nothing_of_each_other", pubsubNamespaces),
		pubsubLine("M5/publisher_may_reuse_its_message", pubsubReuse),
	}
}

func pubsubFieldsSurvive(p *pubsubTest) {
	ps := p.open()
	sub := p.subscribe(ps, es.SubscribeOptions{})
	m := p.message("ünï☃", "full")
	m.Name, m.Schema = "Nöted☃", 7
	m.CorrelationID, m.CausationID = "corrélation", "causatioñ"
	m.Tags = []string{"course:go-101", "étudiant:7", "plain"}
	m.Metadata = map[string]string{"tenant": "a", "clé": "☃", "empty": ""}
	m.ContentType = "application/x-test; charset=utf-8"
	if !p.h.History() { // a log gives these itself
		m.Version, m.Position, m.Recorded = 3, 9, es.Timestamp(m.Time.Add(time.Second))
	}
	bare := p.message("bare", "bare")
	p.publish(ps, m, bare)
	for _, d := range p.consume(sub, 2) {
		want := m
		if d.ID == bare.ID {
			want = bare
		}
		p.sameMessage(d.Message, want)
		if d.Err != nil || d.Raw != nil {
			p.Errorf("a message that can be decoded has Err %v and Raw %q", d.Err, d.Raw)
		}
	}
}

// sameMessage fails unless all fields are equal that a publisher sets.
func (p *pubsubTest) sameMessage(got, want *es.Message) {
	p.Helper()
	same := got.ID == want.ID && got.SameContent(want) && got.Time.Equal(want.Time) &&
		got.CorrelationID == want.CorrelationID && got.CausationID == want.CausationID && maps.Equal(got.Metadata, want.Metadata)
	if !p.h.History() {
		same = same && got.Version == want.Version && got.Position == want.Position && got.Recorded.Equal(want.Recorded)
	}
	if !same {
		p.Errorf("received\n%+v\nwant\n%+v", got, want)
	}
}

func pubsubBytesSurvive(p *pubsubTest) {
	ps := p.open()
	sub := p.subscribe(ps, es.SubscribeOptions{})
	const mebibyte = 1 << 20
	large := make([]byte, mebibyte)
	for i := range large {
		large[i] = byte(i ^ i>>8)
	}
	for _, data := range [][]byte{nil, {}, {0}, []byte("{\"b\": 1,  \"a\":2}\n"), []byte("\xff\xfe not UTF-8 \x00"), large} {
		m := p.message("bytes", "")
		m.ContentType = "application/octet-stream"
		m.Data = data
		p.publish(ps, m)
		if got := p.consume(sub, 1)[0]; !bytes.Equal(got.Data, data) {
			p.Fatalf("%d bytes were published, and %d others came", len(data), len(got.Data))
		}
	}
}

func pubsubInvalidMessage(p *pubsubTest) {
	ps := p.open()
	sub := p.subscribe(ps, es.SubscribeOptions{})
	spoil := map[string]func(m *es.Message){
		"ID":             func(m *es.Message) { m.ID = [16]byte{} },
		"name":           func(m *es.Message) { m.Name = "with\x00NUL" },
		"stream":         func(m *es.Message) { m.Stream = "" },
		"schema":         func(m *es.Message) { m.Schema = 0 },
		"tag":            func(m *es.Message) { m.Tags = []string{"\xff"} },
		"metadata key":   func(m *es.Message) { m.Metadata = map[string]string{"\x00": ""} },
		"metadata value": func(m *es.Message) { m.Metadata = map[string]string{"k": "\xff"} },
		"content type":   func(m *es.Message) { m.ContentType = "" },
		"correlation":    func(m *es.Message) { m.CorrelationID = "\x00" },
	}
	for what, change := range spoil {
		good, bad := p.message("a", "good"), p.message("b", "bad")
		change(bad)
		pubs := []es.Publication{{Topic: pubsubTopic, Message: good}, {Topic: pubsubTopic, Message: bad}}
		p.wantError("Publish of a message with a wrong "+what, ps.Publish(p.ctx, pubs...), es.ErrInvalid)
	}
	nothing := ps.Publish(p.ctx, es.Publication{Topic: pubsubTopic})
	p.wantError("Publish of no message", nothing, es.ErrInvalid)
	p.wantNothingBefore(ps, sub, "nothing of the invalid calls")
}

func pubsubNames(p *pubsubTest) {
	ps := p.open()
	m := p.message("a", "a")
	for _, name := range []string{"", "line\nbreak", "\xff", strings.Repeat("x", es.MaxNameBytes+1)} {
		err := ps.Publish(p.ctx, es.Publication{Topic: name, Message: m})
		p.wantError("Publish to a topic with a wrong name", err, es.ErrInvalid)
		_, err = ps.Subscribe(p.ctx, name, es.SubscribeOptions{})
		p.wantError("Subscribe to a topic with a wrong name", err, es.ErrInvalid)
		if name != "" && p.h.Groups() {
			_, err = ps.Subscribe(p.ctx, pubsubTopic, es.SubscribeOptions{Group: name})
			p.wantError("Subscribe with a group of a wrong name", err, es.ErrInvalid)
		}
	}
	_, err := ps.Subscribe(p.ctx, pubsubTopic, es.SubscribeOptions{Lease: -time.Second})
	p.wantError("Subscribe with a lease below 0", err, es.ErrInvalid)

	longest := strings.Repeat("é", (es.MaxNameBytes-1)/2) // a topic of its own: without "-" a stream is its own category
	sub := p.subscribeTo(ps, longest, es.SubscribeOptions{})
	p.publish(ps, es.NewMessage(longest, "Noted", []byte(`"long"`)))
	p.want(p.consume(sub, 1), "long")
}

func pubsubNamespaces(p *pubsubTest) {
	p.needs(p.h.Namespaces, "namespaces")
	here, there := p.openIn("here"), p.openIn("there")
	opts := es.SubscribeOptions{}
	if p.h.Groups() {
		opts.Group = "g"
	}
	subHere, subThere := p.subscribe(here, opts), p.subscribe(there, opts)
	p.publish(here, p.messages("a1", "b1")...)
	p.publish(there, p.messages("c1")...)
	p.want(p.consume(subThere, 1), "c1")
	ds := p.consume(subHere, 2)
	if err := errors.Join(subHere.Close(), subThere.Close()); err != nil {
		p.Fatalf("Close: %v", err)
	}
	for _, d := range ds {
		if text := pubsubText(d); text != "a1" && text != "b1" {
			p.Fatalf("namespace \"here\" received %q", text)
		}
	}
}

func pubsubReuse(p *pubsubTest) {
	ps := p.open()
	sub := p.subscribe(ps, es.SubscribeOptions{})
	m := p.message("a", "as published")
	m.Tags, m.Metadata = []string{"tag"}, map[string]string{"key": "value"}
	want := m.Clone()
	p.publish(ps, m)
	for i := range m.Data {
		m.Data[i] = 'x'
	}
	m.Tags[0], m.Metadata["key"], m.Name, m.Stream = "other", "other", "Other", "other"
	p.sameMessage(p.consume(sub, 1)[0].Message, want)
}
