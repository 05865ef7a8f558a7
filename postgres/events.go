package postgres

import (
	"context"
	"time"

	"github.com/google/uuid"

	es "github.com/eventsourcing-go/eventsourcing"
)

// EventStore is the event store of a namespace. It is an [es.EventStore].
type EventStore struct {
	db    *DB
	lanes *lanes
	tail  *tail
	reads *reads
}

var _ es.EventStore = (*EventStore)(nil)

func newEventStore(db *DB) *EventStore {
	return &EventStore{db: db, lanes: newLanes(db), tail: newTail(db), reads: newReads(db)}
}

// close waits for what goes on behind the calls, and ends it.
func (s *EventStore) close() error {
	s.lanes.close()
	return s.tail.close()
}

// Head returns the settled head; see [es.EventStore]. It waits for no append: one that is open, and has drawn a position, holds the head
// back, and [DB.Probe] names it.
func (s *EventStore) Head(ctx context.Context) (es.Checkpoint, error) {
	if err := s.db.handle.begin(ctx); err != nil {
		return es.Checkpoint{}, err
	}
	defer s.db.handle.leave()
	settled, err := s.tail.settled(ctx)
	if err != nil {
		return es.Checkpoint{}, err
	}
	return s.checkpoint(settled), nil
}

// Wait returns the settled head as soon as it is beyond after; see [es.EventStore]. It holds no connection meanwhile.
func (s *EventStore) Wait(ctx context.Context, after es.Checkpoint) (es.Checkpoint, error) {
	if after.Position < 0 {
		return es.Checkpoint{}, es.Invalidf("checkpoint", "is at position %d; positions are 0 or more", after.Position)
	}
	if err := s.db.handle.begin(ctx); err != nil {
		return es.Checkpoint{}, err
	}
	s.db.handle.leave()
	head := s.tail.known()
	if err := s.fits(ctx, after, head); err != nil {
		return es.Checkpoint{}, err
	}
	if head > after.Position {
		return s.checkpoint(head), nil
	}
	if err := s.db.watch.begin(); err != nil {
		return es.Checkpoint{}, err
	}
	defer s.db.watch.end()
	for {
		rung := s.db.eventsBell.listen()
		head, err := s.tail.known(), error(nil) // the bell has rung because it rose
		if head <= after.Position {
			head, err = s.tail.settledSoon(ctx)
		}
		if err != nil {
			return es.Checkpoint{}, err
		}
		if head > after.Position {
			return s.checkpoint(head), nil
		}
		if err := s.db.wait(ctx, rung, time.Time{}); err != nil {
			return es.Checkpoint{}, err
		}
	}
}

// fits returns a [*es.CheckpointError] when a checkpoint is of another store, or another life of it, or beyond the last position that
// the store gave out, of which some may not be settled. What is known to be settled makes it unnecessary to ask for that one.
func (s *EventStore) fits(ctx context.Context, c es.Checkpoint, settled int64) error {
	foreign := c.Incarnation != uuid.Nil && c.Incarnation != s.db.incarnation
	if !foreign && c.Position <= settled {
		return nil
	}
	last, err := s.lastGiven(ctx)
	if err != nil {
		return err
	}
	if foreign || c.Position > last {
		return &es.CheckpointError{Checkpoint: c, Last: s.checkpoint(last)}
	}
	return nil
}

// lastGiven returns the last position that the store gave out, also to an append that is open or was rolled back.
func (s *EventStore) lastGiven(ctx context.Context) (last int64, err error) {
	if err := s.db.handle.begin(ctx); err != nil {
		return 0, err
	}
	defer s.db.handle.leave()
	err = s.db.pool.QueryRow(ctx, s.given()).Scan(&last)
	return last, fault(err)
}

// given is the statement for the last position that was given out.
func (s *EventStore) given() string {
	if s.db.serial {
		return s.db.sql("SELECT head FROM @state_#")
	}
	return s.db.sql("SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM @positions_#")
}

func (s *EventStore) checkpoint(position int64) es.Checkpoint {
	return es.Checkpoint{Incarnation: s.db.incarnation, Position: position}
}
