package projection

import (
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
)

// mostPageBytes bounds the data of the events that wait to be handled, as far as one event leaves it.
const mostPageBytes = 16 << 20

// page has the events that were read and are not committed yet, in order.
type page struct {
	messages []*es.Message
	verdicts []verdict // one for each message
	bytes    int
	begun    time.Time
}

// verdict is what was decided about an event that has failed.
type verdict struct {
	fate fate
	err  error
}

type fate uint8

const (
	fateHandle fate = iota
	fateSkip
	fatePark
)

func (p *page) add(m *es.Message) {
	if len(p.messages) == 0 {
		p.begun = time.Now()
	}
	p.messages = append(p.messages, m)
	p.verdicts = append(p.verdicts, verdict{})
	p.bytes += len(m.Data)
}

// full tells whether it is time to handle what was read.
func (p *page) full(c *Config) bool {
	return len(p.messages) >= c.BatchSize || p.bytes >= mostPageBytes || time.Since(p.begun) >= c.BatchTime
}

// drop drops the first messages, which are done.
func (p *page) drop(done int) {
	if done == len(p.messages) {
		p.clear()
		return
	}
	left := copy(p.messages, p.messages[done:])
	clear(p.messages[left:])
	p.messages = p.messages[:left]
	copy(p.verdicts, p.verdicts[done:])
	clear(p.verdicts[left:])
	p.verdicts = p.verdicts[:left]
}

func (p *page) clear() {
	clear(p.messages)
	clear(p.verdicts)
	p.messages, p.verdicts, p.bytes = p.messages[:0], p.verdicts[:0], 0
}
