package router

import (
	"context"
	"errors"
	"fmt"
	"slices"

	es "github.com/eventsourcing-go/eventsourcing"
)

// Case is a handler for the messages of one name, or for all that have no case of their own. It is made by [On], [Otherwise] or
// [DeadLetterOthers]; several on one route are put together by [Switch]. A case by itself is a handler that skips other names.
type Case struct {
	name   string // of the messages; empty: of all others
	types  *es.Types
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
//
// What counts is what a message is called today: one of an older schema goes through its upcasters ([es.Upcast]) first. When they make
// several of it, the handler is called for each that it takes; their outputs are sent together, and an error of one is that of all.
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
	return &Case{name: name, types: types, handle: func(ctx context.Context, d *es.Delivery) ([]*es.Message, error) {
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
	case c.types != nil && d.Message != nil && c.types.Upcasts(d.Message):
		return handleToday(ctx, c.types, d, c.take)
	}
	return c.take(ctx, d)
}

// take handles a message of today.
func (c *Case) take(ctx context.Context, d *es.Delivery) ([]*es.Message, error) {
	if c.name != "" && c.name != d.Name {
		return nil, es.Skip(nil)
	}
	return c.handle(ctx, d)
}

// handleToday has a handler handle what a message of an older schema is today. What the handler skips counts as handled by nobody; when
// that is all, the message is skipped.
func handleToday(ctx context.Context, types *es.Types, d *es.Delivery, take es.HandlerFunc) ([]*es.Message, error) {
	today, err := types.Today(d.Message)
	if err != nil {
		return nil, es.DeadLetter(err)
	}
	skipped := es.Skip(nil)
	var outputs []*es.Message
	for _, m := range today {
		one := *d
		one.Message = m
		out, err := take(ctx, &one)
		if verdict, _ := es.Judge(err); err != nil && verdict == es.VerdictSkip {
			continue
		}
		if err != nil {
			return nil, err
		}
		outputs, skipped = append(outputs, out...), nil
	}
	return outputs, skipped
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
	types  []*es.Types    // of the cases
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
	if c.types != nil && !slices.Contains(s.types, c.types) {
		s.types = append(s.types, c.types)
	}
	return nil
}

// Handle calls the handler of the case that takes the message.
func (s *switching) Handle(ctx context.Context, d *es.Delivery) ([]*es.Message, error) {
	if s.err != nil {
		return nil, s.err
	}
	for _, types := range s.types {
		if d.Message != nil && types.Upcasts(d.Message) {
			return handleToday(ctx, types, d, s.take)
		}
	}
	return s.take(ctx, d)
}

// take handles a message of today.
func (s *switching) take(ctx context.Context, d *es.Delivery) ([]*es.Message, error) {
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
