package aggregate

import (
	"container/list"
	"sync"
)

// cache keeps the states that were used last.
type cache[S any] struct {
	size int

	mu    sync.Mutex
	order *list.List // of *cached, the one that was used last in front
	byID  map[string]*list.Element
}

type cached[S any] struct {
	id string
	at place[S]
}

func newCache[S any](size int) *cache[S] {
	return &cache[S]{size: size, order: list.New(), byID: make(map[string]*list.Element, size)}
}

func (c *cache[S]) get(id string) (place[S], bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.byID[id]
	if e == nil {
		return place[S]{}, false
	}
	c.order.MoveToFront(e)
	return e.Value.(*cached[S]).at, true //nolint:errcheck,forcetypeassert // nothing else is in it
}

// put keeps a state, unless there is one that has come further.
func (c *cache[S]) put(id string, at place[S]) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.byID[id]; e != nil {
		c.order.MoveToFront(e)
		if kept := e.Value.(*cached[S]); kept.at.version <= at.version { //nolint:errcheck,forcetypeassert // nothing else is in it
			kept.at = at
		}
		return
	}
	if c.order.Len() == c.size {
		last := c.order.Back()
		c.order.Remove(last)
		delete(c.byID, last.Value.(*cached[S]).id) //nolint:errcheck,forcetypeassert // nothing else is in it
	}
	c.byID[id] = c.order.PushFront(&cached[S]{id: id, at: at})
}

func (c *cache[S]) remove(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.byID[id]; e != nil {
		c.order.Remove(e)
		delete(c.byID, id)
	}
}
