package memory

import (
	"bytes"
	"context"
	"fmt"

	es "github.com/eventsourcing-go/eventsourcing"
)

// Publish hands over messages; see [es.Publisher]. When a group or subscription has no room it does what [PubSubConfig].Overflow
// says; the slowest consumer of a topic decides. Those of a call that were not taken are the last ones of their topic.
//
// A handler that publishes to the topic it consumes could wait for ever: for room that is only made when it returns. So a call
// whose context is that of a delivery of the same topic ([es.WithDelivery]) never waits: without room it is [es.ErrFull]. Handlers
// of several topics that publish to each other's can still wait in a circle; give such a Publish a context with an end, or
// send through an outbox.
func (p *PubSub) Publish(ctx context.Context, pubs ...es.Publication) error {
	if p.isClosed() {
		return es.ErrClosed
	}
	if err := p.validate(pubs); err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	var failed failures
	for begin := 0; begin < len(pubs); {
		topicName := pubs[begin].Topic
		end := begin + 1
		for end < len(pubs) && pubs[end].Topic == topicName {
			end++
		}
		taken, err := 0, failed.of(topicName)
		if err == nil {
			taken, err = p.hand(ctx, topicName, pubs[begin:end], nil)
		}
		if err != nil {
			failed.add(topicName, err, begin+taken, end, len(pubs))
		}
		begin = end
	}
	return es.BatchErr(failed.errs)
}

// failures are the publications of a call that were not taken. When one of a topic was not, those of that topic that come
// later are not either, so that none overtakes another.
type failures struct {
	errs   []error
	topics map[string]error
}

func (f *failures) of(topicName string) error { return f.topics[topicName] }

func (f *failures) add(topicName string, err error, begin, end, all int) {
	if f.errs == nil {
		f.errs, f.topics = make([]error, all), map[string]error{}
	}
	f.topics[topicName] = err
	for i := begin; i < end; i++ {
		f.errs[i] = err
	}
}

// hand hands over messages of one topic. It returns how many were taken, and why the others were not.
func (p *PubSub) hand(ctx context.Context, topicName string, pubs []es.Publication, broken *undecodable) (int, error) {
	w := publication{pubs: pubs, broken: broken, mayWait: p.broker.config.Overflow == OverflowBlock}
	if d, ok := es.DeliveryFrom(ctx); ok && d.Topic == topicName && p.space.issued(d.Receipt) {
		w.own, w.mayWait = true, false
	}
	t := p.space.copy(topicName, &w)
	for {
		// Close ends the subscriptions after it has said that it does, and what had no room has some then: in the backlog.
		if p.isClosed() {
			t.dequeue(&w)
			t.unlock()
			p.space.forget(t) // when the publication has made it
			return w.taken, es.ErrClosed
		}
		done, err := t.publish(&w)
		news := t.takeNews()
		t.unlock()
		p.tell(topicName, news)
		if w.unwanted {
			p.boundTopics()
			w.unwanted = false
		}
		if done || err != nil {
			return w.taken, err
		}
		select {
		case <-w.ticket.wake:
		case <-ctx.Done():
			err = ctx.Err()
		case <-p.done:
			err = es.ErrClosed
		}
		t.mu.Lock()
		if err != nil {
			t.dequeue(&w)
			t.unlock()
			return w.taken, err
		}
	}
}

// copy makes the records of a publication, and returns the topic that they are for, locked.
func (s *topicSpace) copy(name string, w *publication) *topic {
	t := s.topic(name)
	if t == nil {
		t = s.lockTopic(name)
		t.unlock()
	}
	p := t.takePress()
	p.copy(w)
	t.putPress(p)
	t.mu.Lock()
	if !t.gone {
		return t
	}
	t.unlock()
	return s.lockTopic(name) // another of the name, and the records are good for it too
}

// takePress returns a press that nobody else has.
func (t *topic) takePress() *press {
	if p := t.press.Swap(nil); p != nil {
		return p
	}
	return t.presses.Get().(*press) //nolint:forcetypeassert,errcheck // nothing else is put there
}

func (t *topic) putPress(p *press) {
	if !t.press.CompareAndSwap(nil, p) {
		t.presses.Put(p)
	}
}

// publication is a call of Publish at work on one topic.
type publication struct {
	pubs    []es.Publication
	broken  *undecodable    // set by PublishRaw
	taken   int             // how many were taken: the first ones
	records []topicRecord   // of the next of those that were not taken
	more    [][]topicRecord // of those that follow
	mayWait bool
	own     bool    // it comes from a handler of the topic
	ticket  *ticket // while it waits in the queue of the topic

	unwanted bool // nobody is subscribed
}

// ticket is a place in the queue of those who wait for room.
type ticket struct {
	wake chan struct{} // has room for one signal
}

func (p *PubSub) isClosed() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// validate checks a call before anything of it is published.
func (p *PubSub) validate(pubs []es.Publication) error {
	for i := range pubs {
		if i == 0 || pubs[i].Topic != pubs[i-1].Topic {
			if err := es.ValidateName("topic", pubs[i].Topic); err != nil {
				return fmt.Errorf("publication %d: %w", i, err)
			}
		}
		if err := pubs[i].Message.Validate(p.broker.config.Limits); err != nil {
			return fmt.Errorf("publication %d: %w", i, err)
		}
	}
	return nil
}

// PublishRaw publishes bytes that cannot be decoded: they come with Err set to cause, Raw to a copy of raw, and the Message that
// could be read of them, which may be nil for none. A pub/sub in memory has no bytes to decode, so that this never happens by
// itself; the method is there to test handlers and middleware with what they meet on a broker that has. The message is not
// validated. Otherwise it is [PubSub.Publish].
func (p *PubSub) PublishRaw(ctx context.Context, topicName string, m *es.Message, raw []byte, cause error) error {
	if p.isClosed() {
		return es.ErrClosed
	}
	if err := es.ValidateName("topic", topicName); err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	if cause == nil {
		return fmt.Errorf("publish: %w", es.Invalidf("cause", "is nil; it says why the bytes cannot be decoded"))
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if m == nil {
		m = &es.Message{}
	}
	pubs := []es.Publication{{Topic: topicName, Message: m}}
	_, err := p.hand(ctx, topicName, pubs, &undecodable{cause: cause, raw: bytes.Clone(raw)})
	return err
}
