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
	n.wake()
}

// set makes these the list.
func (n *noted[T]) set(items ...T) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.list = items
	n.wake()
}

func (n *noted[T]) wake() {
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

func (n *noted[T]) reset() { n.set() }

// await returns the list as soon as it is enough, or as it is when ctx ends. The list is not held while enough is asked, which may end the
// test, or look at the list itself.
func (n *noted[T]) await(ctx context.Context, enough func([]T) bool) (list []T, ok bool) {
	for {
		list, changed := n.look()
		if enough(list) {
			return list, true
		}
		select {
		case <-changed:
			continue
		case <-ctx.Done():
		}
		select {
		case <-changed: // at the last moment
		default:
			return list, false
		}
	}
}

// look returns the list, and a channel that is closed with the next change.
func (n *noted[T]) look() (list []T, changed <-chan struct{}) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.changed == nil {
		n.changed = make(chan struct{})
	}
	return slices.Clone(n.list), n.changed
}
