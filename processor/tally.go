package processor

import "github.com/google/uuid"

// tally counts failures by message, in bounded memory.
type tally map[uuid.UUID]int

// add counts a failure and returns how many there were.
func (t tally) add(id uuid.UUID) int {
	const most = 100_000
	if _, known := t[id]; !known && len(t) >= most {
		for some := range t { // which then has more attempts than it should
			delete(t, some)
			break
		}
	}
	t[id]++
	return t[id]
}

func (t tally) drop(id uuid.UUID) {
	if len(t) > 0 {
		delete(t, id)
	}
}
