package router

import (
	"context"
	"errors"
	"fmt"

	es "github.com/eventsourcing-go/eventsourcing"
)

// Case is a handler for the messages of one name, or for all that have no case of their own. It is made by [On], [Otherwise] or
// [DeadLetterOthers]; several on one route are put together by [Switch]. A case by itself is a handler that skips other names.
type Case struct {
	name   string // of the messages; empty: of all others
	handle es.HandlerFunc
	err    error // what is wrong with it
}

// On makes a handler for the messages that hold a T: they are decoded once, and handed over as the Go value. T has to be registered
// ([es.Register]) before; otherwise the route cannot be added.
//
//	err = r.Route("item", router.On(types, func(ctx context.Context, e ItemAdded, d *es.Delivery) ([]*es.Message, error) { ... }), o)
//
// A message of the name that cannot be decoded, or is of a schema that the type was not registered for, is a dead letter at once
// ([es.DeadLetter]): to try again would not help. Messages of other names are skipped; [Switch] takes several names and decides about
// the others.
func On[T any](types *es.Types, handle func(ctx context.Context, event T, d *es.Delivery) ([]*es.Message, error)) *Case {
	switch {
	case types == nil:
		return &Case{err: es.Invalidf("types", "are nil; make them with es.NewTypes")}
	case handle == nil:
		return &Case{err: es.Invalidf("handler", "is nil")}
	}
	name, err := es.NameOf[T](types)
	if err != nil {
		return &Case{err: err}
	}
	return &Case{name: name, handle: func(ctx context.Context, d *es.Delivery) ([]*es.Message, error) {
		event, err := es.Decode[T](types, d.Message)
		if err != nil {
			return nil, es.DeadLetter(err)
		}
		return handle(ctx, event, d)
	}}
}

// Otherwise is the case of a [Switch] for the messages whose name no other case takes.
func Otherwise(h es.Handler) *Case {
	if err := checkHandler(h); err != nil {
		return &Case{err: err}
	}
	return &Case{handle: h.Handle}
}

// checkHandler says what is wrong with a handler, as far as that can be seen before it is called.
func checkHandler(h es.Handler) error {
	switch h := h.(type) {
	case nil:
		return es.Invalidf("handler", "is nil")
	case es.HandlerFunc:
		if h == nil {
			return es.Invalidf("handler", "is a function that is nil")
		}
	case interface{ check() error }:
		return h.check()
	}
	return nil
}

// DeadLetterOthers is the case of a [Switch] by which messages whose name no other case takes are dead letters: for routes that are to
// handle all that there is.
func DeadLetterOthers() *Case {
	return Otherwise(es.HandlerFunc(func(_ context.Context, d *es.Delivery) ([]*es.Message, error) {
		return nil, es.DeadLetter(fmt.Errorf("no handler takes messages named %q", d.Name))
	}))
}

// Handle calls the handler of the case for a message of its name, and skips any other.
func (c *Case) Handle(ctx context.Context, d *es.Delivery) ([]*es.Message, error) {
	switch {
	case c.err != nil:
		return nil, c.err
	case c.name != "" && c.name != d.Name:
		return nil, es.Skip(nil)
	}
	return c.handle(ctx, d)
}

// check says what is wrong with a case.
func (c *Case) check() error {
	if c == nil {
		return es.Invalidf("case", "is nil; On, Otherwise and DeadLetterOthers make one")
	}
	if c.err == nil && c.handle == nil {
		return es.Invalidf("case", "is empty; On, Otherwise and DeadLetterOthers make one")
	}
	return c.err
}

// switching is a handler of several cases.
type switching struct {
	cases  map[string]es.HandlerFunc
	others es.HandlerFunc // nil: they are skipped
	skip   error
	err    error // what is wrong with it
}

// Switch makes a handler out of several cases: one for each name that messages of a topic have, and at the most one for all others,
// which are skipped without. A route that is given a switch with a mistake in it, such as a name that has two cases, cannot be added.
//
//	err = r.Route("item", router.Switch(router.On(types, added), router.On(types, removed), router.DeadLetterOthers()), o)
func Switch(cases ...*Case) es.Handler {
	s := &switching{cases: make(map[string]es.HandlerFunc, len(cases)), skip: es.Skip(nil)}
	var errs []error
	for i, c := range cases {
		if err := s.add(c); err != nil {
			errs = append(errs, fmt.Errorf("case at index %d: %w", i, err))
		}
	}
	if len(cases) == 0 {
		errs = append(errs, es.Invalidf("switch", "has no case; a route takes one or more"))
	}
	s.err = errors.Join(errs...)
	return s
}

func (s *switching) add(c *Case) error {
	if err := c.check(); err != nil {
		return err
	}
	if c.name == "" {
		if s.others != nil {
			return es.Invalidf("case", "is a second one for all other names; a switch takes one at the most")
		}
		s.others = c.handle
		return nil
	}
	if _, taken := s.cases[c.name]; taken {
		return es.Invalidf("case", "is a second one for messages named %q; a switch takes one for each name", c.name)
	}
	s.cases[c.name] = c.handle
	return nil
}

// Handle calls the handler of the case that takes the message.
func (s *switching) Handle(ctx context.Context, d *es.Delivery) ([]*es.Message, error) {
	if s.err != nil {
		return nil, s.err
	}
	handle, ok := s.cases[d.Name]
	switch {
	case ok:
		return handle(ctx, d)
	case s.others != nil:
		return s.others(ctx, d)
	}
	return nil, s.skip
}

// check says what is wrong with the switch.
func (s *switching) check() error { return s.err }
