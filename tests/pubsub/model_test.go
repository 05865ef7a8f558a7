package pubsub_test

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	es "github.com/eventsourcing-go/eventsourcing"
)

// model is a topic as it should be, told as plainly as possible: each group has a list of what is not acknowledged, and all
// questions are answered by walking through it.
type model struct {
	buffer, backlogLimit int
	evictOldest          bool

	published int
	groups    []*group
	backlog   *group // what nobody has subscribed to; among groups while nobody is subscribed
	evicted   int64
}

// group is a consumer group, or a subscription without one.
type group struct {
	name    string
	key     func(*es.Message) string
	members int
	entries []*entry // by number
	batch   int
}

// entry is a message that a group has not acknowledged.
type entry struct {
	message   *es.Message
	number    int
	attempt   int
	notBefore time.Time
	suspect   bool
	first     time.Time

	lent    *member // nil: it waits
	batch   int
	due     time.Time
	receipt uint64
}

// member is a subscription.
type member struct {
	group *group
	lease time.Duration
}

func (g *group) waiting() int { return len(g.entries) - g.inFlight() }

func (g *group) inFlight() int {
	n := 0
	for _, e := range g.entries {
		if e.lent != nil {
			n++
		}
	}
	return n
}

// room is how many messages can be published before somebody's buffer runs over.
func (m *model) room() int {
	least := 1 << 30
	if m.evictOldest {
		return least
	}
	for _, g := range m.groups {
		if g.members > 0 {
			least = min(least, max(m.buffer-g.waiting(), 0))
		}
	}
	return least
}

func (m *model) publish(msgs []*es.Message) {
	if len(msgs) == 0 {
		return
	}
	if len(m.groups) == 0 {
		if m.backlog == nil {
			m.backlog = &group{}
		}
		m.groups = []*group{m.backlog}
	}
	for _, message := range msgs {
		m.published++
		for _, g := range m.groups {
			g.entries = append(g.entries, &entry{message: message, number: m.published, attempt: 1})
		}
	}
	for _, g := range m.groups {
		switch {
		case g.members == 0:
			m.evict(g, g.waiting()-m.backlogLimit)
		case m.evictOldest:
			m.evict(g, g.waiting()-m.buffer)
		}
	}
}

func (m *model) evict(g *group, n int) {
	g.entries = slices.DeleteFunc(g.entries, func(e *entry) bool {
		if e.lent != nil || n <= 0 {
			return false
		}
		n--
		m.evicted++
		return true
	})
}

func (m *model) join(opts es.SubscribeOptions) *member {
	var g *group
	for _, other := range m.groups {
		if opts.Group != "" && other.name == opts.Group {
			g = other
		}
	}
	if g == nil {
		g = m.newGroup(opts)
	}
	if g.members == 0 {
		g.key = opts.Key
	}
	g.members++
	return &member{group: g, lease: opts.Lease}
}

func (m *model) newGroup(opts es.SubscribeOptions) *group {
	m.groups = slices.DeleteFunc(m.groups, func(g *group) bool { return g == m.backlog })
	if m.backlog != nil && len(m.backlog.entries) == 0 {
		m.backlog = nil
	}
	g := &group{name: opts.Group}
	if m.backlog != nil && opts.Start.Kind != es.StartEnd {
		g.entries, m.backlog = m.backlog.entries, nil
	}
	m.groups = append(m.groups, g)
	return g
}

func (m *model) leave(s *member, now time.Time) {
	g := s.group
	g.refresh(now)
	for _, e := range slices.Clone(g.entries) {
		if e.lent == s {
			g.giveBack(e)
		}
	}
	g.members--
	if g.name != "" {
		return
	}
	m.groups = slices.DeleteFunc(m.groups, func(other *group) bool { return other == g })
	if len(m.groups) > 0 {
		return
	}
	if m.backlog != nil {
		older := len(m.backlog.entries)
		g.entries = append(g.entries, m.backlog.entries...)
		slices.SortFunc(g.entries, func(a, b *entry) int { return cmp.Compare(a.number, b.number) })
		tooMany := min(older, max(len(g.entries)-m.backlogLimit, 0))
		g.entries = g.entries[tooMany:]
		m.evicted += int64(tooMany)
	}
	if m.backlog = g; len(g.entries) == 0 {
		m.backlog, m.evicted = nil, 0 // a topic with nothing and nobody is forgotten
	}
}

func (g *group) keyOf(e *entry) string {
	if g.key == nil {
		return e.message.Stream
	}
	return g.key(e.message)
}

// giveBack takes an entry back, and with it those of its key and batch that follow.
func (g *group) giveBack(e *entry) {
	for _, other := range g.entries {
		if other.lent != nil && other.number >= e.number && g.keyOf(other) == g.keyOf(e) {
			other.lent = nil
		}
	}
}

// refresh ends leases. A pub/sub does so when somebody asks something of the group.
func (g *group) refresh(now time.Time) {
	var over []*entry
	for _, e := range g.entries {
		if e.lent != nil && !e.due.After(now) {
			e.attempt++
			e.suspect = true
			e.notBefore = time.Time{}
			over = append(over, e)
		}
	}
	for _, e := range over {
		if e.lent != nil {
			g.giveBack(e)
		}
	}
}

// deliverable tells whether an entry can be in a batch.
func (g *group) deliverable(e *entry, batch int, now time.Time) bool {
	if e.lent != nil || e.notBefore.After(now) {
		return false
	}
	for _, other := range g.entries {
		if other == e || g.keyOf(other) != g.keyOf(e) {
			continue
		}
		if other.lent == nil && other.number < e.number || other.lent != nil && other.batch != batch {
			return false
		}
	}
	return true
}

func (g *group) find(id uuid.UUID) *entry {
	for _, e := range g.entries {
		if e.message.ID == id {
			return e
		}
	}
	return nil
}

// receive judges what a Receive has given, and takes it over. An empty text means that it was right.
func (m *model) receive(s *member, ds []es.Delivery, most int, now time.Time) string {
	g := s.group
	most = min(most, m.buffer-g.inFlight())
	if len(ds) > most {
		return fmt.Sprintf("%d came where %d was the most", len(ds), most)
	}
	g.batch++
	alone := false
	for _, d := range ds {
		e := g.find(d.ID)
		switch {
		case e == nil:
			return fmt.Sprintf("%s came, which the group has not, or not any more", d.Data)
		case !g.deliverable(e, g.batch, now):
			return fmt.Sprintf("%s (number %d) came, which was not to come yet", d.Data, e.number)
		case d.Attempt != e.attempt:
			return fmt.Sprintf("%s came as attempt %d, want %d", d.Data, d.Attempt, e.attempt)
		case e.suspect && len(ds) > 1:
			return fmt.Sprintf("%s, whose lease had ended, came with %d others", d.Data, len(ds)-1)
		case d.Group != g.name || !d.Deadline.Equal(now.Add(s.lease)):
			return fmt.Sprintf("%s came to group %q with the deadline %v", d.Data, d.Group, d.Deadline)
		}
		if e.first.IsZero() {
			e.first = now
		}
		if !d.First.Equal(e.first) {
			return fmt.Sprintf("%s came first at %v, and says %v", d.Data, e.first, d.First)
		}
		alone = e.suspect
		e.lent, e.batch, e.due, e.receipt = s, g.batch, d.Deadline, d.Receipt
	}
	if alone || len(ds) == most {
		return ""
	}
	var left []*entry
	for _, e := range g.entries {
		if g.deliverable(e, g.batch, now) {
			left = append(left, e)
		}
		if e.suspect && e.lent == nil && len(ds) > 0 {
			return "" // it waits for a batch of its own, and may hold up others
		}
	}
	if len(left) > 0 {
		return fmt.Sprintf("%d came where there was room for %d, and %s did not", len(ds), most, left[0].message.Data)
	}
	return ""
}

// lentTo returns the entry of a delivery, when it can be answered by a member.
func (g *group) lentTo(s *member, d *es.Delivery) *entry {
	e := g.find(d.ID)
	if e == nil || e.lent != s || e.receipt != d.Receipt {
		return nil
	}
	return e
}

// answer does what an answer to deliveries does, and returns which of them could be answered.
func (m *model) answer(s *member, ds []es.Delivery, now time.Time, answer func(g *group, e *entry)) []bool {
	g := s.group
	g.refresh(now)
	answered := make([]bool, len(ds))
	seen := map[uint64]bool{}
	var entries []*entry
	for i := range ds {
		if e := g.lentTo(s, &ds[i]); e != nil && !seen[e.receipt] {
			seen[e.receipt] = true
			answered[i] = true
			entries = append(entries, e)
		}
	}
	for _, e := range entries {
		answer(g, e)
	}
	return answered
}

func (g *group) acknowledge(e *entry) {
	g.entries = slices.DeleteFunc(g.entries, func(other *entry) bool { return other == e })
}
