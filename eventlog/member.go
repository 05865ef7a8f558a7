package eventlog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	es "github.com/eventsourcing-go/eventsourcing"
)

// join makes this log a member of the group: it takes the lease of a new member, and says so in a document.
func (g *group) join(ctx context.Context) error {
	id := es.NewID().String()
	lease, err := g.log.leases.Acquire(ctx, g.keys.lease(id), id, g.log.config.Lease)
	if err != nil {
		return fmt.Errorf("take the lease of a member: %w", err)
	}
	head, err := memberHead(memberDocument{Name: g.log.config.Member, Token: lease.Token, Owned: []int{}})
	if err != nil {
		return err
	}
	err = g.log.models.Commit(ctx, es.Commit{Fence: &lease, Writes: []es.Write{
		{Model: g.keys.model, Key: g.keys.member(id), Data: appendCovered(nil, head, 0)},
	}})
	if err != nil {
		_ = g.log.leases.Release(ctx, lease) // it ends by itself, too
		return fmt.Errorf("write the document of a member: %w", err)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.member, g.memberDoc, g.lease, g.head, g.covered = id, g.keys.member(id), lease, head, -1
	g.renewAt = later(g.clock(), g.log.config.Lease/3)
	return nil
}

// others are the members of the group that are alive, this one not among them, and those that have died.
type others struct {
	alive []string
	owned map[int]bool // the partitions that those alive say they have
	dead  []es.Document
}

// look tells who is there.
func (g *group) look(ctx context.Context, self string) (others, error) {
	o := others{owned: map[int]bool{}}
	docs, err := listAll(ctx, g.log.models, g.keys.model, g.keys.members())
	if err != nil {
		return o, fmt.Errorf("list the members: %w", err)
	}
	for _, doc := range docs {
		id := strings.TrimPrefix(doc.Key, g.keys.members())
		if id == self {
			continue
		}
		var m memberDocument
		if json.Unmarshal(doc.Data, &m) != nil { // nobody can tell whether it is alive
			o.dead = append(o.dead, doc)
			continue
		}
		alive, err := g.alive(ctx, id, m.Token)
		switch {
		case err != nil:
			return o, err
		case !alive:
			o.dead = append(o.dead, doc)
			continue
		}
		o.alive = append(o.alive, id)
		for _, p := range m.Owned {
			o.owned[p] = true
		}
	}
	return o, nil
}

// alive tells whether a member holds its lease.
func (g *group) alive(ctx context.Context, id string, token int64) (bool, error) {
	switch err := g.log.leases.Check(ctx, es.Lease{Name: g.keys.lease(id), Owner: id, Token: token}); {
	case err == nil:
		return true, nil
	case errors.Is(err, es.ErrLeaseLost):
		return false, nil
	default:
		return false, fmt.Errorf("check the lease of a member: %w", err)
	}
}

// listAll returns all documents of a model whose keys begin with a prefix.
func listAll(ctx context.Context, models es.ReadModels, model, prefix string) ([]es.Document, error) {
	var all []es.Document
	q := es.ListQuery{Model: model, Prefix: prefix, Limit: es.DefaultListLimit}
	for {
		page, err := models.List(ctx, q)
		if err != nil {
			return nil, err
		}
		all = append(all, page...)
		if len(page) < q.Limit {
			return all, nil
		}
		q.After = page[len(page)-1].Key
	}
}

// share is how many partitions a member is to have: as many as the others, and one more for the oldest ones when they do not
// divide evenly.
func share(self string, alive []string, partitions int) int {
	members := append(slices.Clone(alive), self)
	slices.Sort(members) // by age, because the IDs rise with time
	n := partitions / len(members)
	if slices.Index(members, self) < partitions%len(members) {
		n++
	}
	return n
}

// rebalance brings the partitions of this member to its share: it gives some away that have nothing in flight, or takes some that
// nobody has.
func (g *group) rebalance(ctx context.Context) error {
	g.mu.Lock()
	self := g.member
	g.mu.Unlock()
	if self == "" {
		if err := g.join(ctx); err != nil {
			return err
		}
		return g.rebalance(ctx)
	}
	o, err := g.look(ctx, self)
	if err != nil {
		return err
	}
	g.mu.Lock()
	if g.member != self {
		g.mu.Unlock()
		return nil
	}
	want := g.aim(share(self, o.alive, g.partitions))
	g.mu.Unlock()
	if err := g.giveAway(ctx); err != nil {
		return err
	}
	if want > 0 {
		if err := g.claim(ctx, self, want, o); err != nil {
			return err
		}
	}
	return g.bury(ctx, o.dead)
}

// aim marks the partitions that are more than a share as leaving, those without deliveries first, or takes the mark off again. It
// returns how many are missing.
func (g *group) aim(share int) int {
	staying := len(g.owned)
	for _, p := range g.owned {
		if p.leaving {
			staying--
		}
	}
	byOut := slices.Clone(g.owned)
	slices.SortStableFunc(byOut, func(a, b *partition) int { return a.out - b.out })
	for _, p := range byOut {
		if staying > share && !p.leaving {
			p.leaving = true
			staying--
		}
	}
	for _, p := range slices.Backward(byOut) {
		if staying < share && p.leaving {
			p.leaving = false
			staying++
			for _, k := range p.keys {
				g.settleKey(k)
			}
			g.wakeReader()
		}
	}
	return max(share-staying, 0)
}

// giveAway writes off the partitions that are leaving and have nothing in flight.
func (g *group) giveAway(ctx context.Context) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.canGiveAway() { // and then nobody waits for a commit, while there is a lease to renew
		return nil
	}
	for g.running != nil { // what it writes must not come after this
		running := g.running
		g.mu.Unlock()
		<-running.done
		g.mu.Lock()
	}
	commit := es.Commit{}
	var away []*partition
	for _, p := range g.owned {
		if p.leaving && p.out == 0 {
			away = append(away, p)
			commit.Writes = append(commit.Writes, es.Write{Model: g.keys.model, Key: p.doc, Data: g.appendRecord(nil, p, "")})
		}
	}
	if len(away) == 0 || g.member == "" {
		return nil
	}
	for _, p := range away {
		g.drop(p)
	}
	if err := g.renameOwned(); err != nil {
		return err
	}
	lease := g.lease
	commit.Fence = &lease
	commit.Writes = append(commit.Writes, g.memberWrite())
	r := newRound()
	g.running = r
	g.mu.Unlock()
	err := g.log.models.Commit(ctx, commit)
	g.mu.Lock()
	g.running = nil
	close(r.done)
	return g.judgeOwners(err)
}

// judgeOwners decides what the outcome of a commit that changes owners means. Of one that is unknown nobody could tell whose the
// partitions are, so that the member gives up its lease, and begins anew.
func (g *group) judgeOwners(err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, es.ErrClosed) || errors.Is(err, es.ErrUnsupported) {
		g.fail(err)
	}
	g.surrender = g.lease
	g.loseLease()
	return fmt.Errorf("change the owners of partitions: %w", err)
}

// renameOwned encodes the document of the member anew: it has other partitions.
func (g *group) renameOwned() error {
	d := memberDocument{Name: g.log.config.Member, Token: g.lease.Token, Owned: []int{}}
	for _, p := range g.owned {
		d.Owned = append(d.Owned, p.id)
	}
	head, err := memberHead(d)
	if err == nil {
		g.head = head
	}
	return err
}

// memberWrite writes the document of the member as it is now.
func (g *group) memberWrite() es.Write {
	covered := int64(never)
	for _, p := range g.owned {
		covered = min(covered, p.handled())
	}
	if covered == never {
		covered = 0
	}
	g.covered = covered
	return es.Write{Model: g.keys.model, Key: g.memberDoc, Data: appendCovered(nil, g.head, covered)}
}

// bury removes the documents of members that have died. What they owned is told by the documents of the partitions.
func (g *group) bury(ctx context.Context, dead []es.Document) error {
	for _, doc := range dead {
		err := g.log.models.Commit(ctx, es.Commit{Writes: []es.Write{
			{Model: g.keys.model, Key: doc.Key, Delete: true, Expect: es.Exactly(doc.Revision)},
		}})
		if err != nil && !errors.Is(err, es.ErrConflict) {
			return fmt.Errorf("remove the document of a member that died: %w", err)
		}
	}
	return nil
}
