package postgres

import (
	"context"

	es "github.com/eventsourcing-go/eventsourcing"
)

// Append adds events to their streams, to all or to none; see [es.EventStore]. Appends that wait at the same moment share a transaction,
// and those that others hold up do not hold up the rest.
//
// When ctx ends while the append waits for its turn, nothing was appended; once it is under way, the outcome is unknown then. When the
// connection is lost, the append is made again with the same IDs for ten seconds, or as long as ctx lasts; then it is [ErrUnavailable], and
// the outcome is unknown. An append whose outcome is unknown can be repeated as it is.
func (s *EventStore) Append(ctx context.Context, a es.Append) (es.Appended, error) {
	if err := s.db.handle.begin(ctx); err != nil {
		return es.Appended{}, err
	}
	defer s.db.handle.leave()
	if err := a.Validate(s.db.config.Limits); err != nil {
		return es.Appended{}, err
	}
	return s.lanes.do(ctx, &a, nil)
}

// AppendEach does appends that do not depend on each other; see [es.EventStore]. Those to one stream are done in order, and as many as
// possible share a transaction. When ctx ends in between, its error is the outcome of those that are left, as it is of [EventStore.Append].
func (s *EventStore) AppendEach(ctx context.Context, appends []es.Append) []es.Outcome {
	outcomes := make([]es.Outcome, len(appends))
	if err := s.db.handle.begin(ctx); err != nil {
		for i := range outcomes {
			outcomes[i].Err = err
		}
		return outcomes
	}
	defer s.db.handle.leave()
	flyers := make([]*flyer, len(appends))
	entering := make([]*flyer, 0, len(appends))
	for i := range appends {
		if outcomes[i].Err = appends[i].Validate(s.db.config.Limits); outcomes[i].Err == nil {
			flyers[i] = s.lanes.newFlyer(&appends[i], nil)
			entering = append(entering, flyers[i])
		}
	}
	s.lanes.enter(entering...)
	for i, f := range flyers {
		if f != nil {
			outcomes[i].Appended, outcomes[i].Err = s.lanes.outcome(ctx, f)
		}
	}
	return outcomes
}
