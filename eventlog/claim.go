package eventlog

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"

	es "github.com/eventsourcing-go/eventsourcing"
)

// candidate is a partition that nobody has.
type candidate struct {
	part *partition
	doc  es.Document
	data []byte
}

// claim takes partitions that nobody has, as many as wanted.
func (g *group) claim(ctx context.Context, self string, want int, o others) error {
	candidates, err := g.candidates(ctx, self, want, o)
	if err != nil || len(candidates) == 0 {
		return err
	}
	g.mu.Lock()
	for g.running != nil { // the member's document must not be written by both
		running := g.running
		g.mu.Unlock()
		<-running.done
		g.mu.Lock()
	}
	if g.member != self {
		g.mu.Unlock()
		return nil
	}
	commit, err := g.claiming(candidates)
	if err != nil {
		g.mu.Unlock()
		return err
	}
	r := newRound()
	g.running = r
	g.mu.Unlock()
	err = g.log.models.Commit(ctx, commit)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.running = nil
	close(r.done)
	g.covered = -1
	switch {
	case errors.Is(err, es.ErrConflict): // somebody was faster; the next look will tell
		g.lookAgain()
		return g.renameOwned()
	case err != nil:
		return g.judgeOwners(err)
	}
	for _, c := range candidates {
		g.adopt(c.part)
	}
	g.wakeReader()
	return nil
}

// claiming is the commit that takes partitions.
func (g *group) claiming(candidates []candidate) (es.Commit, error) {
	lease := g.lease
	commit := es.Commit{Fence: &lease}
	d := memberDocument{Name: g.log.config.Member, Token: lease.Token}
	covered := int64(never)
	for _, p := range g.owned { // what they have read is kept by their own documents: that of the member is to go back
		d.Owned = append(d.Owned, p.id)
		covered = min(covered, p.handled())
		commit.Writes = append(commit.Writes, es.Write{Model: g.keys.model, Key: p.doc, Data: g.appendRecord(nil, p, g.member)})
	}
	for _, c := range candidates {
		d.Owned = append(d.Owned, c.part.id)
		covered = min(covered, c.part.scanned)
		commit.Writes = append(commit.Writes, es.Write{
			Model: g.keys.model, Key: c.part.doc, Data: c.data, Expect: es.Exactly(c.doc.Revision),
		})
	}
	head, err := memberHead(d)
	if err != nil {
		return commit, err
	}
	g.head = head
	commit.Writes = append(commit.Writes, es.Write{
		Model: g.keys.model, Key: g.memberDoc, Data: appendCovered(nil, head, covered),
	})
	return commit, nil
}

// candidates looks for partitions that nobody has. Members begin to look at different places, so as not to be in each other's way.
func (g *group) candidates(ctx context.Context, self string, want int, o others) ([]candidate, error) {
	docs, err := g.log.models.Load(ctx, g.keys.model, append(g.keys.partitions(g.partitions), g.keys.group())...)
	if err != nil {
		return nil, fmt.Errorf("load the partitions: %w", err)
	}
	last := len(docs) - 1
	if same, err := g.follow(docs[last]); err != nil || !same {
		return nil, err
	}
	docs = docs[:last]
	begin := fnv.New32a()
	_, _ = begin.Write([]byte(self))
	var found []candidate
	owners := map[string]bool{} // whether those that were asked for are alive
	for i := range docs {
		n := (i + int(begin.Sum32())) % len(docs)
		if len(found) == want {
			break
		}
		g.mu.Lock()
		mine := g.byID[n] != nil
		g.mu.Unlock()
		if mine {
			continue
		}
		r, free, err := g.examine(ctx, n, docs[n], self, o, owners)
		if err != nil {
			return nil, err
		}
		if free {
			found = append(found, g.candidate(n, docs[n], r, self))
		}
	}
	return found, nil
}

// follow tells whether the group is still what this member knows it to be. A group that was reset while the lease of the member was
// over is taken as it is now, at the next look.
func (g *group) follow(doc es.Document) (bool, error) {
	if doc.Revision == 0 {
		return false, fmt.Errorf("the group was dropped: %w", es.ErrNotFound)
	}
	d, err := decodeGroup(doc.Data)
	if err != nil {
		return false, err
	}
	if err := g.sameKey(d); err != nil {
		return false, err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case d.Partitions == g.partitions && d.Incarnation == g.incarnation && d.Start == g.start:
		return true, nil
	case len(g.owned) > 0: // nobody could reset the group unless the lease was over
		g.surrender = g.lease
		g.loseLease()
	default:
		g.accept(d)
	}
	g.lookAgain()
	return false, nil
}

// examine tells what the document of a partition says, and whether the partition is free.
func (g *group) examine(
	ctx context.Context, n int, doc es.Document, self string, o others, owners map[string]bool,
) (record, bool, error) {
	if doc.Revision == 0 {
		return record{}, false, fmt.Errorf("partition %d has no document; the group was dropped: %w", n, es.ErrNotFound)
	}
	r, err := decodeRecord(doc.Data)
	switch {
	case errors.Is(err, errNewer):
		g.log.config.Logger.Error("partition of a group is left alone: a newer version of the toolkit has written its document",
			"topic", g.topic, "group", g.name, "partition", n)
		return r, false, nil
	case err != nil:
		// Its owner, if there is one, writes it anew with its next commit, and says in its own document that it is the owner.
		if !o.owned[n] {
			g.log.config.Logger.Error("partition of a group begins again where the group began: its document cannot be read",
				"topic", g.topic, "group", g.name, "partition", n, "position", g.start)
		}
		return record{incarnation: g.incarnation, high: g.start}, !o.owned[n], nil
	case r.incarnation != g.incarnation:
		return r, false, g.foreign(ctx, r)
	case r.owner == "":
		return r, true, nil
	case r.owner == self: // it is not: a commit that was broken off has arrived late, over what another owner wrote
		return r, !o.owned[n], nil
	}
	alive, known := owners[r.owner]
	if !known {
		if alive, err = g.alive(ctx, r.owner, r.token); err != nil {
			return r, false, err
		}
		owners[r.owner] = alive
	}
	return r, !alive, nil
}

// foreign returns what the store says to a checkpoint of another incarnation.
func (g *group) foreign(ctx context.Context, r record) error {
	at := es.Checkpoint{Incarnation: r.incarnation, Position: r.high}
	return g.log.check(ctx, at)
}

// candidate is a partition as this member would own it. What was out with an owner that has died is one attempt further, and
// comes alone: it may be what the owner has died of.
func (g *group) candidate(n int, doc es.Document, r record, self string) candidate {
	g.mu.Lock()
	token := g.lease.Token
	g.mu.Unlock()
	if r.owner != "" {
		g.log.config.Logger.Warn("partition of a group is taken over from a member that died",
			"topic", g.topic, "group", g.name, "partition", n, "from", r.owner)
	}
	for i := range r.open {
		if e := &r.open[i]; e.out {
			e.out, e.suspicion, e.notBefore = false, crashed, 0
			e.attempt++
		}
	}
	r.owner, r.token = self, token
	r.epoch++
	return candidate{
		part: &partition{
			id: n, doc: g.keys.partition(n), epoch: r.epoch, scanned: r.high, pending: r.open,
			loading: len(r.open) > 0, high: r.high,
		},
		doc: doc, data: r.encode(),
	}
}
