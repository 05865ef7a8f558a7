package postgres

import (
	"bytes"
	"slices"

	"github.com/google/uuid"

	es "github.com/eventsourcing-go/eventsourcing"
)

// encode makes the arguments of the statements for the appends of the batch that have no answer yet. After that nothing is read of what
// the callers have given. Those who have given up are left out.
func (ln *lane) encode() {
	ln.appends, ln.conditions = 0, 0
	ln.events, ln.owners, ln.ids = ln.events[:0], ln.owners[:0], ln.ids[:0]
	ln.entries = ln.entries[:0]
	for i := range ln.args {
		ln.args[i].reset()
	}
	var unlock []*flyer
	for i, f := range ln.batch {
		if !ln.open[i] {
			continue
		}
		f.given.Lock()
		if f.append == nil {
			f.given.Unlock()
			ln.settle(i, answer{alone: true}) // to nobody
			continue
		}
		unlock = append(unlock, f)
		ln.appends++
		ln.conditions += len(f.append.Unless)
		for _, m := range f.events {
			ln.events = append(ln.events, m)
			ln.owners = append(ln.owners, int32(i))
			ln.ids = append(ln.ids, m.ID)
		}
		for _, m := range f.entries {
			e := laneEntry{message: m, owner: i, number: len(ln.entries) + 1}
			if len(f.events) > 0 {
				e.event = f.events[0].ID
			}
			ln.entries = append(ln.entries, e)
		}
	}
	if ln.appends > 0 {
		ln.encodeLocks()
		ln.encodeConditions()
		ln.encodeEvents()
		ln.encodeEntries()
	}
	clear(ln.events)
	for _, f := range unlock {
		f.given.Unlock()
	}
}

// encodeLocks makes the arguments of the statement that takes the locks.
func (ln *lane) encodeLocks() {
	l, w := ln.lanes, &ln.args[0]
	ln.locks = ln.locks[:0]
	for i, f := range ln.batch {
		if ln.open[i] {
			ln.locks = append(ln.locks, f.claims.streams...)
			for _, b := range f.claims.exclusive {
				ln.locks = append(ln.locks, l.bucketKey(b))
			}
		}
	}
	ln.exclusive = len(ln.locks)
	for i, f := range ln.batch {
		if ln.open[i] {
			for _, b := range f.claims.shared {
				ln.locks = append(ln.locks, l.bucketKey(b))
			}
		}
	}
	slices.Sort(ln.locks[ln.exclusive:])
	ln.locks = append(ln.locks[:ln.exclusive], slices.Compact(ln.locks[ln.exclusive:])...)
	if ln.short() || len(ln.locks) == 0 {
		for _, key := range ln.locks {
			w.begin()
			w.int64(key)
		}
		return
	}
	w.array(oidBigint, len(ln.locks))
	for _, key := range ln.locks {
		w.int64Element(key)
	}
	w.begin()
	w.int64(int64(ln.exclusive))
}

// encodeConditions makes the arguments of the statement that checks the conditions.
func (ln *lane) encodeConditions() {
	if ln.conditions == 0 {
		return
	}
	w := &ln.args[1]
	column := func(oid int32, write func(i int, c *es.Condition)) {
		w.array(oid, ln.conditions)
		for i, f := range ln.batch {
			if ln.open[i] {
				for c := range f.append.Unless {
					write(i, &f.append.Unless[c])
				}
			}
		}
	}
	column(oidInteger, func(i int, _ *es.Condition) { w.int32Element(int32(i)) }) //nolint:gosec // a batch is small
	column(oidText, func(_ int, c *es.Condition) { w.textElement(criteriaJSON(c.Match)) })
	column(oidBigint, func(_ int, c *es.Condition) { w.int64Element(c.After) })
	column(oidBigint, func(_ int, c *es.Condition) { w.int64Element(int64(c.Seen)) })
}

// encodeEvents makes the arguments of the statement that inserts.
func (ln *lane) encodeEvents() {
	w := &ln.args[2]
	if len(ln.events) == 0 {
		return
	}
	if ln.short() {
		w.begin()
		w.int64(int64(ln.batch[ln.owners[0]].expect))
		w.scalars(ln.events[0])
		return
	}
	w.array(oidInteger, len(ln.events))
	for _, owner := range ln.owners {
		w.int32Element(owner)
	}
	w.array(oidBigint, len(ln.events))
	for _, owner := range ln.owners {
		w.int64Element(int64(ln.batch[owner].expect))
	}
	w.array(oidBigint, len(ln.events))
	step := int64(0)
	for i, owner := range ln.owners {
		if i == 0 || owner != ln.owners[i-1] {
			step = 0
		}
		step++
		w.int64Element(step)
	}
	w.columns(ln.events)
}

// laneEntry is an entry of the outbox in a batch.
type laneEntry struct {
	message *es.Message
	event   uuid.UUID // the first of the append that it goes with; zero where there is none
	owner   int       // the number of its flyer
	number  int       // from 1, in the order in which the entries were given
}

// encodeEntries makes the arguments of the statement that adds entries to the outbox. Those who add the same ones wait for each other in
// the order of the IDs.
func (ln *lane) encodeEntries() {
	if len(ln.entries) == 0 {
		return
	}
	slices.SortFunc(ln.entries, func(a, b laneEntry) int { return bytes.Compare(a.message.ID[:], b.message.ID[:]) })
	w := &ln.args[3]
	if len(ln.entries) == 1 {
		e := &ln.entries[0]
		if e.event == uuid.Nil {
			w.null()
		} else {
			w.begin()
			w.buf = append(w.buf, e.event[:]...)
		}
		w.scalars(e.message)
		e.message = &es.Message{ID: e.message.ID}
		return
	}
	w.array(oidInteger, len(ln.entries))
	for _, e := range ln.entries {
		w.int32Element(int32(e.number)) //nolint:gosec // a batch is small
	}
	w.array(oidUUID, len(ln.entries))
	messages := make([]*es.Message, 0, len(ln.entries))
	for i := range ln.entries {
		e := &ln.entries[i]
		if e.event == uuid.Nil {
			w.nullElement()
		} else {
			w.idElement(e.event)
		}
		messages = append(messages, e.message)
		e.message = &es.Message{ID: e.message.ID} // the caller's may change
	}
	w.columns(messages)
}
