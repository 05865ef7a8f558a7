package aggregate

import (
	"fmt"
	"reflect"

	es "github.com/eventsourcing-go/eventsourcing"
)

// folder builds states of events.
type folder[S, E any] struct {
	types   *es.Types
	unknown es.Unknown
	evolve  func(S, E) S
}

// fold is a state on its way through events.
type fold[S, E any] struct {
	*folder[S, E]

	state S
	room  [1]es.Decoded
}

func (f *folder[S, E]) begin(state S) fold[S, E] { return fold[S, E]{folder: f, state: state} }

// apply applies what a stored message stands for today. With an error the state is as it was, unless Evolve changes what it is given.
func (f *fold[S, E]) apply(m *es.Message) error {
	all, err := f.types.DecodeAll(f.room[:0], m, f.unknown)
	if err != nil {
		return err
	}
	for _, d := range all {
		event, ok := d.Value.(E)
		if !ok {
			return fmt.Errorf("%q is a %T, which is no %v", d.Message.Name, d.Value, reflect.TypeFor[E]())
		}
		f.state = f.evolve(f.state, event)
	}
	return nil
}
