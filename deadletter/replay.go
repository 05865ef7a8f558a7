package deadletter

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"

	es "github.com/eventsourcing-go/eventsourcing"
)

// Replay gives the messages of dead letters to those who gave them up, once more, with their attempts counted from 1: that of a
// route to this route and to no other, that of a processor to the outbox. What fails again is a new dead letter.
//
// [es.ErrNotFound] for an ID that is no dead letter, or was dealt with, and [es.ErrInvalid] for a letter that cannot be replayed;
// nothing is replayed then. After another error some may have been, and those that are not listed any more were. A message is sent
// before its letter counts as replayed, so that a crash loses nothing; it may be handled twice then, unless its route dedupes.
func (q *Queue) Replay(ctx context.Context, ids ...uuid.UUID) error {
	letters, err := q.find(ctx, ids)
	if err != nil {
		return fmt.Errorf("replay: %w", err)
	}
	return q.replay(ctx, letters)
}

// ReplayAll replays all letters that match, of those that are there when it begins, the oldest first, and returns how many it
// replayed. Letters that cannot be replayed are left where they are, and named by the error.
func (q *Queue) ReplayAll(ctx context.Context, f Filter) (int, error) {
	return q.all(ctx, f, q.replay)
}

// Discard puts dead letters aside for good. They stay in the dead stream, as part of what happened, and are not listed any more.
// [es.ErrNotFound] for an ID that is no dead letter, or was dealt with; nothing is discarded then.
func (q *Queue) Discard(ctx context.Context, ids ...uuid.UUID) error {
	letters, err := q.find(ctx, ids)
	if err != nil {
		return fmt.Errorf("discard: %w", err)
	}
	return q.discard(ctx, letters)
}

// DiscardAll discards all letters that match, of those that are there when it begins, and returns how many it discarded.
func (q *Queue) DiscardAll(ctx context.Context, f Filter) (int, error) {
	return q.all(ctx, f, q.discard)
}

// all does something with all letters that match, a page at a time. Those of routes and of processors are apart: what is wrong with the
// ones must not leave the others half done.
func (q *Queue) all(ctx context.Context, f Filter, do func(context.Context, []Letter) error) (int, error) {
	b := batch{do: do}
	var ofRoutes, ofProcessors []Letter
	for l, err := range q.List(ctx, f) {
		if err != nil {
			return b.done, errors.Join(append(b.refused, err)...)
		}
		letters := &ofRoutes
		if l.OfProcessor() {
			letters = &ofProcessors
		}
		if *letters = append(*letters, l); len(*letters) < page {
			continue
		}
		if err := b.add(ctx, *letters); err != nil {
			return b.done, errors.Join(append(b.refused, err)...)
		}
		*letters = (*letters)[:0]
	}
	for _, letters := range [][]Letter{ofRoutes, ofProcessors} {
		if err := b.add(ctx, letters); err != nil {
			return b.done, errors.Join(append(b.refused, err)...)
		}
	}
	return b.done, errors.Join(b.refused...)
}

// batch counts what was done to letters.
type batch struct {
	do      func(context.Context, []Letter) error
	done    int
	refused []error
}

// add does it to more letters. When they are turned down together they are tried one by one, so that one does not keep the others. The
// error is one after which it is no use to go on.
func (b *batch) add(ctx context.Context, letters []Letter) error {
	if len(letters) == 0 {
		return nil
	}
	err := b.do(ctx, letters)
	unsettled, settling := errors.AsType[*unsettledError](err)
	switch {
	case err == nil:
		b.done += len(letters)
	case settling: // it was done to all of them, and must not be again
		b.done += len(letters) - unsettled.letters
		if ctx.Err() != nil || !refusal(err) {
			return err
		}
		b.refused = append(b.refused, err)
	case ctx.Err() != nil || !refusal(err):
		return err
	case len(letters) == 1:
		b.refused = append(b.refused, err)
	default:
		for i := range letters {
			if err := b.add(ctx, letters[i:i+1]); err != nil {
				return err
			}
		}
	}
	return nil
}

// refusal tells whether an error speaks of letters, and not of the store.
func refusal(err error) bool {
	return errors.Is(err, es.ErrInvalid) || errors.Is(err, es.ErrNotFound) || errors.Is(err, es.ErrConflict)
}

func (q *Queue) replay(ctx context.Context, letters []Letter) error {
	ofRoutes, ofProcessors, err := q.split(ctx, letters)
	if err != nil {
		return fmt.Errorf("replay: %w", err)
	}
	replays := make([]*es.Message, len(ofRoutes))
	for i := range ofRoutes {
		if ofRoutes[i].Err != nil {
			return fmt.Errorf("replay: %w", es.Invalidf("dead letter", "%s can only be discarded: %v", ofRoutes[i].ID, ofRoutes[i].Err))
		}
		if replays[i], err = es.NewReplay(ofRoutes[i].ID, ofRoutes[i].DeadLetterRecord); err != nil {
			return fmt.Errorf("replay: %w", err)
		}
	}
	entries := make([]uuid.UUID, len(ofProcessors))
	for i := range ofProcessors {
		if !ofProcessors[i].inOutbox {
			return fmt.Errorf("replay: dead letter %s: its entry is not in the outbox any more, discard the letter: %w",
				ofProcessors[i].ID, es.ErrNotFound)
		}
		entries[i] = ofProcessors[i].Original.ID
	}
	if len(replays) > 0 {
		if err := q.config.Send(ctx, replays); err != nil {
			return fmt.Errorf("replay: send: %w", err)
		}
		if err := q.settle(ctx, ReplayedName, ofRoutes); err != nil {
			return fmt.Errorf("replay: %w", err)
		}
	}
	if len(entries) == 0 {
		return nil
	}
	if err := q.config.Outbox.Replay(ctx, entries...); err != nil {
		return fmt.Errorf("replay in the outbox: %w", err)
	}
	return q.settle(ctx, ReplayedName, lettersOf(ofProcessors))
}

func (q *Queue) discard(ctx context.Context, letters []Letter) error {
	_, ofProcessors, err := q.split(ctx, letters)
	if err != nil {
		return fmt.Errorf("discard: %w", err)
	}
	var entries []uuid.UUID
	for i := range ofProcessors {
		if ofProcessors[i].inOutbox {
			entries = append(entries, ofProcessors[i].Original.ID)
		}
	}
	if len(entries) > 0 {
		if err := q.config.Outbox.Discard(ctx, entries...); err != nil {
			return fmt.Errorf("discard from the outbox: %w", err)
		}
	}
	if err := q.settle(ctx, DiscardedName, letters); err != nil {
		return fmt.Errorf("discard: %w", err)
	}
	return nil
}

// processorLetter is the letter of a processor.
type processorLetter struct {
	Letter

	inOutbox bool // the outbox has the entry still, as it was when this letter was made of it
}

func lettersOf(ofProcessors []processorLetter) []Letter {
	letters := make([]Letter, len(ofProcessors))
	for i := range ofProcessors {
		letters[i] = ofProcessors[i].Letter
	}
	return letters
}

// split tells the letters of routes from those of processors, and looks for the entries of the latter.
func (q *Queue) split(ctx context.Context, letters []Letter) (ofRoutes []Letter, ofProcessors []processorLetter, _ error) {
	for i := range letters {
		if letters[i].OfProcessor() {
			ofProcessors = append(ofProcessors, processorLetter{Letter: letters[i]})
			continue
		}
		ofRoutes = append(ofRoutes, letters[i])
	}
	if len(ofProcessors) == 0 {
		return ofRoutes, nil, nil
	}
	if q.config.Outbox == nil {
		return nil, nil, es.Invalidf("dead letter", "%s is that of the processor %q; set Config.Outbox to the outbox that it works on",
			ofProcessors[0].ID, ofProcessors[0].Handler)
	}
	byEntry := make(map[uuid.UUID][]int, len(ofProcessors))
	for i := range ofProcessors {
		id := ofProcessors[i].Original.ID
		byEntry[id] = append(byEntry[id], i)
	}
	for dead, err := range q.config.Outbox.DeadLetters(ctx) {
		if err != nil {
			return nil, nil, err
		}
		for _, i := range byEntry[dead.ID] {
			ofProcessors[i].inOutbox, err = q.madeOf(&ofProcessors[i].Letter, &dead)
			if err != nil {
				return nil, nil, err
			}
		}
	}
	return ofRoutes, ofProcessors, nil
}

// madeOf tells whether a letter was made of a dead entry as it is now. An entry that was replayed and died again has another letter.
func (q *Queue) madeOf(l *Letter, dead *es.DeadEntry) (bool, error) {
	entry := es.Entry{Message: dead.Message, Enqueued: dead.Enqueued, Attempt: dead.Attempts}
	again, err := es.NewDeadEntry(q.config.Stream, l.Handler, &entry, nil)
	if err != nil {
		return false, err
	}
	return again.ID == l.ID, nil
}
