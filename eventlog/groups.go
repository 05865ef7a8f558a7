package eventlog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
)

// GroupInfo is how a consumer group stands.
type GroupInfo struct {
	Topic, Group string
	// Only is what the group was restricted to when it began; empty when it sees everything. See [Log.Only].
	Only []es.Criterion
	// Mark is the low-water mark: everything at or below it is handled. It is the smallest of those of the partitions.
	Mark es.Checkpoint
	// Lag is how far the mark is behind the head.
	Lag es.Lag
	// Members are those that are alive, the oldest first.
	Members []MemberInfo
	// Partitions are all partitions of the group.
	Partitions []PartitionInfo
}

// MemberInfo is a member of a group: a log, in some process, that has subscriptions of the group.
type MemberInfo struct {
	// ID is unique; Name is what [Config].Member says.
	ID, Name string
	// Partitions are those that it owns.
	Partitions []int
}

// PartitionInfo is a partition of a group.
type PartitionInfo struct {
	// Number counts from 0. Owner is the ID of the member that has it; empty when nobody alive has it.
	Number int
	Owner  string
	// Mark is its low-water mark: everything at or below it is handled.
	Mark int64
	// Open are messages that were read and are not handled, the oldest first. Messages that nobody was given yet, and stand
	// behind all that somebody was given, are not among them.
	Open []OpenMessage
}

// OpenMessage is a message that a group was given, or that waits for one of its key, and that is not handled.
type OpenMessage struct {
	Position int64
	// Attempt counts from 1; 0 for one that nobody was given.
	Attempt int
	// First is when it was handed out for the first time, and NotBefore until when it waits; zero when that is not so.
	First, NotBefore time.Time
	// Out: somebody has it, and has not answered.
	Out bool
}

// groupState is what the store has of a group.
type groupState struct {
	info groupDocument
	doc  es.Document   // of the group
	docs []es.Document // of the partitions
	keys groupKeys
}

// Groups lists the groups of all topics.
func (l *Log) Groups(ctx context.Context) ([]GroupInfo, error) {
	docs, err := listAll(ctx, l.models, l.config.Model, "group/")
	if err != nil {
		return nil, fmt.Errorf("list groups: %w", err)
	}
	var all []GroupInfo
	for _, doc := range docs {
		d, err := decodeGroup(doc.Data)
		if err != nil {
			return nil, fmt.Errorf("list groups: %q: %w", doc.Key, err)
		}
		info, err := l.Group(ctx, d.Topic, d.Group)
		switch {
		case errors.Is(err, es.ErrNotFound): // it was dropped meanwhile
		case err != nil:
			return nil, err
		default:
			all = append(all, info)
		}
	}
	return all, nil
}

// Group tells how a group stands; [es.ErrNotFound] when there is none. It is what the store knows: how far a member of another
// process has read where nothing was for it gets there half a second later.
func (l *Log) Group(ctx context.Context, topic, group string) (GroupInfo, error) {
	s, err := l.load(ctx, topic, group)
	if err != nil {
		return GroupInfo{}, err
	}
	info, err := l.inspect(ctx, s)
	if err != nil {
		return info, fmt.Errorf("inspect group %q of topic %q: %w", group, topic, err)
	}
	info.Lag, err = l.lag(ctx, topic, info.Mark, info.Only)
	if err != nil {
		return info, fmt.Errorf("lag of group %q of topic %q: %w", group, topic, err)
	}
	return info, nil
}

// load reads the documents of a group and of its partitions.
func (l *Log) load(ctx context.Context, topic, group string) (groupState, error) {
	s := groupState{keys: keysOf(l.config.Model, topic, group)}
	if err := l.running(ctx); err != nil {
		return s, err
	}
	docs, err := l.models.Load(ctx, s.keys.model, s.keys.group())
	if err != nil {
		return s, fmt.Errorf("load group %q of topic %q: %w", group, topic, err)
	}
	if s.doc = docs[0]; s.doc.Revision == 0 {
		return s, fmt.Errorf("group %q of topic %q: %w", group, topic, es.ErrNotFound)
	}
	if s.info, err = decodeGroup(s.doc.Data); err != nil {
		return s, err
	}
	s.docs, err = l.models.Load(ctx, s.keys.model, s.keys.partitions(s.info.Partitions)...)
	if err != nil {
		return s, fmt.Errorf("load the partitions of group %q of topic %q: %w", group, topic, err)
	}
	return s, nil
}

func (l *Log) running(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return es.ErrClosed
	}
	return ctx.Err()
}

// inspect makes sense of the documents of a group.
//
// Where a member has read on and found nothing, the documents of its partitions do not say so: its own does. The documents of a
// commit are read in two steps, but in the order in which a mark can only be found too low: what a member says it has covered is
// read first, and holds still when its partitions are read later, unless one was taken from it, which then names another owner.
func (l *Log) inspect(ctx context.Context, s groupState) (GroupInfo, error) {
	info := GroupInfo{Topic: s.info.Topic, Group: s.info.Group, Only: s.info.criteria()}
	info.Mark = es.Checkpoint{Incarnation: s.info.Incarnation, Position: never}
	members, covered, err := l.membersOf(ctx, s.keys)
	if err != nil {
		return info, err
	}
	info.Members = members
	docs, err := l.models.Load(ctx, s.keys.model, s.keys.partitions(s.info.Partitions)...)
	if err != nil {
		return info, err
	}
	for i, doc := range docs {
		r, err := decodeRecord(doc.Data)
		if err != nil {
			r = record{high: s.info.Start}
		}
		p := PartitionInfo{Number: i}
		if m, alive := covered[owner{r.owner, r.token}]; alive {
			p.Owner = r.owner
			if slices.Contains(m.Owned, i) { // otherwise it took the partition after it said so
				r.high = max(r.high, m.Covered)
			}
		}
		p.Mark = r.mark()
		for _, e := range r.open {
			p.Open = append(p.Open, e.info())
		}
		info.Partitions = append(info.Partitions, p)
	}
	l.overlay(&info)
	for _, p := range info.Partitions {
		info.Mark.Position = min(info.Mark.Position, p.Mark)
	}
	return info, nil
}

func (e entry) info() OpenMessage {
	m := OpenMessage{Position: e.position, Attempt: int(e.attempt), Out: e.out}
	if e.attempt > 0 {
		m.First = time.UnixMicro(e.first).UTC()
	}
	if e.notBefore != 0 {
		m.NotBefore = time.UnixMicro(e.notBefore).UTC()
	}
	return m
}

// owner is a member while it has a lease.
type owner struct {
	id    string
	token int64
}

// membersOf returns the members of a group that are alive, and how far each has covered what it owns.
func (l *Log) membersOf(ctx context.Context, keys groupKeys) ([]MemberInfo, map[owner]memberDocument, error) {
	docs, err := listAll(ctx, l.models, keys.model, keys.members())
	if err != nil {
		return nil, nil, err
	}
	var members []MemberInfo
	covered := map[owner]memberDocument{}
	for _, doc := range docs {
		id := strings.TrimPrefix(doc.Key, keys.members())
		var m memberDocument
		if json.Unmarshal(doc.Data, &m) != nil {
			continue
		}
		err := l.leases.Check(ctx, es.Lease{Name: keys.lease(id), Owner: id, Token: m.Token})
		switch {
		case errors.Is(err, es.ErrLeaseLost):
			continue
		case err != nil:
			return nil, nil, err
		}
		members = append(members, MemberInfo{ID: id, Name: m.Name, Partitions: m.Owned})
		covered[owner{id, m.Token}] = m
	}
	return members, covered, nil
}

// overlay adds what the log itself knows better than the store, as the owner of partitions.
func (l *Log) overlay(info *GroupInfo) {
	g := l.member(info.Topic, info.Group)
	if g == nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, p := range g.owned {
		if i := &info.Partitions[p.id]; i.Owner == g.member {
			i.Mark = max(i.Mark, p.mark())
		}
	}
}

// member returns the log's own member of a group, nil when there is none.
func (l *Log) member(topic, group string) *group {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.groups[groupID{topic, group}]
}

// DropGroup removes a group with its place in the log. It is [es.ErrNotFound] when there is none, and [es.ErrInvalid] while it has
// members.
func (l *Log) DropGroup(ctx context.Context, topic, group string) error {
	return l.change(ctx, topic, group, func(s groupState) ([]es.Write, error) {
		writes := []es.Write{{Model: s.keys.model, Key: s.keys.group(), Delete: true, Expect: es.Exactly(s.doc.Revision)}}
		for i, key := range s.keys.partitions(s.info.Partitions) {
			if s.docs[i].Revision != 0 {
				writes = append(writes, es.Write{Model: s.keys.model, Key: key, Delete: true, Expect: es.Exactly(s.docs[i].Revision)})
			}
		}
		return writes, nil
	})
}

// ResetGroup makes a group begin anew at another place, with its messages and attempts forgotten: to handle history again, to pass
// over something, or to go on after the store was restored. It is cut into as many partitions as [Config].Partitions says, and may
// be given another ordering key by who subscribes next. It is [es.ErrNotFound] when there is no such group, and [es.ErrInvalid]
// while it has members.
func (l *Log) ResetGroup(ctx context.Context, topic, group string, start es.Start) error {
	if err := validateStart(start); err != nil {
		return fmt.Errorf("reset group %q of topic %q: %w", group, topic, err)
	}
	at, err := l.resolve(ctx, topic, start)
	if err != nil {
		return fmt.Errorf("reset group %q of topic %q: %w", group, topic, err)
	}
	return l.change(ctx, topic, group, func(s groupState) ([]es.Write, error) {
		before := s.info.Partitions
		s.info.Incarnation, s.info.Start, s.info.Partitions = at.Incarnation, at.Position, l.config.Partitions
		s.info.Key = "" // who subscribes next says it
		writes, err := beginning(s.keys, s.info)
		if err != nil {
			return nil, err
		}
		writes[0].Expect = es.Exactly(s.doc.Revision)
		for i, key := range s.keys.partitions(before) {
			switch {
			case s.docs[i].Revision == 0:
			case i < s.info.Partitions:
				writes[1+i].Expect = es.Exactly(s.docs[i].Revision)
			default:
				writes = append(writes, es.Write{
					Model: s.keys.model, Key: key, Delete: true, Expect: es.Exactly(s.docs[i].Revision),
				})
			}
		}
		return writes, nil
	})
}

// change changes a group that has no members. A member that joins meanwhile makes the commit fail, because it takes partitions,
// and is found when it is tried again.
func (l *Log) change(ctx context.Context, topic, group string, writes func(s groupState) ([]es.Write, error)) error {
	for {
		s, err := l.load(ctx, topic, group)
		if err != nil {
			return err
		}
		members, _, err := l.membersOf(ctx, s.keys)
		if err != nil {
			return fmt.Errorf("look for the members of group %q of topic %q: %w", group, topic, err)
		}
		if len(members) > 0 {
			return fmt.Errorf("change group %q of topic %q: %w", group, topic, es.Invalidf("group",
				"has %d members, such as %q; close their subscriptions first", len(members), members[0].Name))
		}
		ws, err := writes(s)
		if err != nil {
			return err
		}
		switch err := l.models.Commit(ctx, es.Commit{Writes: ws}); {
		case err == nil:
			return nil
		case !errors.Is(err, es.ErrConflict):
			return fmt.Errorf("change group %q of topic %q: %w", group, topic, err)
		}
	}
}

// The pauses between two looks at a group of which other processes have partitions.
const (
	firstLook = time.Millisecond
	lastLook  = 50 * time.Millisecond
)

// WaitFor returns when a group has handled everything up to a checkpoint: what its handlers keep in read models can then be read.
// The position of an append is in [es.Appended], its incarnation in [es.EventStore.Head]; a zero incarnation is not checked.
//
// It looks at once, and waits for the group's members in other processes by looking again, after 50 ms at the most. The error is
// [es.ErrNotFound] when there is no such group, a [*es.CheckpointError] when the checkpoint is not one of the store or the group, or
// that of the context.
func (l *Log) WaitFor(ctx context.Context, topic, group string, c es.Checkpoint) error {
	before, err := l.load(ctx, topic, group)
	if err != nil {
		return err
	}
	begun := es.Checkpoint{Incarnation: before.info.Incarnation, Position: before.info.Start}
	if err := errors.Join(l.check(ctx, c), l.check(ctx, begun)); err != nil {
		return fmt.Errorf("wait for group %q of topic %q: %w", group, topic, err)
	}
	pause := firstLook
	timer := time.NewTimer(pause)
	defer timer.Stop()
	for {
		changed := l.watch(topic, group)
		s, err := l.load(ctx, topic, group)
		if err != nil {
			return err
		}
		info, err := l.inspect(ctx, s)
		if err != nil {
			return fmt.Errorf("wait for group %q of topic %q: %w", group, topic, err)
		}
		if info.Mark.Position >= c.Position {
			return nil
		}
		timer.Reset(pause)
		select {
		case <-changed:
			pause = firstLook
		case <-timer.C:
			pause = min(2*pause, lastLook)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// watch returns a channel that is closed when the mark of the log's own member may have moved.
func (l *Log) watch(topic, group string) <-chan struct{} {
	g := l.member(topic, group)
	if g == nil {
		return nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.changed == nil {
		g.changed = make(chan struct{})
	}
	return g.changed
}
