package estest

import (
	"context"
	"slices"
	"sync"
)

// noted is a list that grows, and that can be waited for. The zero value is empty.
type noted[T any] struct {
	mu      sync.Mutex
	list    []T
	changed chan struct{} // closed, and made anew, with each change; nil while nobody waits
}

func (n *noted[T]) add(items ...T) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.list = append(n.list, items...)
	if n.changed != nil {
		close(n.changed)
		n.changed = nil
	}
}

func (n *noted[T]) all() []T {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.list)
}

func (n *noted[T]) reset() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.list = nil
}

// await returns the list as soon as it is enough, or as it is when ctx ends.
func (n *noted[T]) await(ctx context.Context, enough func([]T) bool) (list []T, ok bool) {
	for {
		n.mu.Lock()
		list = slices.Clone(n.list)
		if enough(list) {
			n.mu.Unlock()
			return list, true
		}
		if n.changed == nil {
			n.changed = make(chan struct{})
		}
		changed := n.changed
		n.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return list, false
		}
	}
}
