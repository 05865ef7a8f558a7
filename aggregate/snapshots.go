package aggregate

import (
	"context"
	"errors"
	"fmt"
	"mime"
	"reflect"
	"time"

	"github.com/google/uuid"

	es "github.com/eventsourcing-go/eventsourcing"
)

// eventParameter is the parameter of a snapshot's media type that has the ID of the last event in the state. By it a snapshot is not taken
// for one of another stream that has come to have the same name, after a restore for example.
const eventParameter = "event"

// snapshotPatience is how long keeping a snapshot may hold up who does not need it: the events are there already.
const snapshotPatience = time.Second

func (r *Repository[S, E]) snapshotKey(id string) es.SnapshotKey {
	return es.SnapshotKey{Stream: r.Stream(id), Name: r.config.SnapshotName, Schema: r.config.SnapshotSchema}
}

// fromSnapshot returns the state of a snapshot, if there is one that can be used.
func (r *Repository[S, E]) fromSnapshot(ctx context.Context, id string, end until) (place[S], bool) {
	if r.config.Snapshots == nil {
		return place[S]{}, false
	}
	snapshot, err := r.config.Snapshots.Load(ctx, r.snapshotKey(id))
	if err != nil {
		if !errors.Is(err, es.ErrNotFound) && ctx.Err() == nil {
			r.config.Logger.WarnContext(ctx, "a snapshot could not be loaded", "stream", r.Stream(id), "error", err)
		}
		return place[S]{}, false
	}
	if end.version > 0 && snapshot.Version > end.version {
		return place[S]{}, false
	}
	at, err := r.decode(&snapshot)
	if err != nil {
		r.config.Logger.WarnContext(ctx, "a snapshot cannot be decoded, and is not used", "stream", snapshot.Stream,
			"version", snapshot.Version, "error", err)
		if end == (until{}) {
			r.drop(ctx, id)
		}
		return place[S]{}, false
	}
	return at, true
}

// decode returns the state in a snapshot.
func (r *Repository[S, E]) decode(snapshot *es.Snapshot) (place[S], error) {
	media, parameters, err := mime.ParseMediaType(snapshot.ContentType)
	if err != nil {
		return place[S]{}, fmt.Errorf("its media type %q: %w", snapshot.ContentType, err)
	}
	if want, _, err := mime.ParseMediaType(r.config.SnapshotCodec.ContentType()); err != nil || media != want {
		return place[S]{}, fmt.Errorf("it is %s, and the codec is for %s", media, want)
	}
	last, err := uuid.Parse(parameters[eventParameter])
	if err != nil {
		return place[S]{}, fmt.Errorf("the event in its media type %q: %w", snapshot.ContentType, err)
	}
	at := place[S]{version: snapshot.Version, last: last, snapshot: snapshot.Version}
	err = r.config.SnapshotCodec.Unmarshal(snapshot.Data, &at.state)
	return at, err
}

// drop removes a snapshot that is good for nothing, since none of the same or an earlier version could be kept beside it. When another
// process has kept a better one meanwhile, that costs time and nothing else.
func (r *Repository[S, E]) drop(ctx context.Context, id string) {
	within, cancel := context.WithTimeout(ctx, snapshotPatience)
	defer cancel()
	if err := r.config.Snapshots.Delete(within, r.snapshotKey(id)); err != nil && ctx.Err() == nil {
		r.config.Logger.WarnContext(ctx, "a snapshot that is not used could not be removed", "stream", r.Stream(id), "error", err)
	}
}

// snapshot keeps a state, if it is time. A snapshot that cannot be kept costs time later, and is no error.
func (r *Repository[S, E]) snapshot(ctx context.Context, id string, at *place[S]) {
	if r.config.Snapshots == nil || at.version <= at.snapshot || !r.due(id, at) {
		return
	}
	err := r.save(ctx, id, at)
	if err != nil {
		if ctx.Err() == nil {
			r.config.Logger.WarnContext(ctx, "a snapshot could not be kept", "stream", r.Stream(id), "version", at.version, "error", err)
		}
		return
	}
	at.snapshot = at.version
	r.keep(id, *at)
}

func (r *Repository[S, E]) due(id string, at *place[S]) bool {
	if r.config.SnapshotWhen != nil {
		return r.config.SnapshotWhen(SnapshotChance{ID: id, Version: at.version, Snapshot: at.snapshot, Recorded: at.recorded})
	}
	return at.version-at.snapshot >= int64(r.config.SnapshotEvery)
}

func (r *Repository[S, E]) save(ctx context.Context, id string, at *place[S]) error {
	codec := r.config.SnapshotCodec
	data, err := codec.Marshal(at.state)
	if err != nil {
		return err
	}
	if err := r.comesBack(data, at.state); err != nil {
		return err
	}
	media, parameters, err := mime.ParseMediaType(codec.ContentType())
	if err != nil {
		return err
	}
	parameters[eventParameter] = at.last.String()
	ctx, cancel := context.WithTimeout(ctx, snapshotPatience)
	defer cancel()
	return r.config.Snapshots.Save(ctx, es.Snapshot{
		SnapshotKey: r.snapshotKey(id), Version: at.version, Time: es.Timestamp(time.Now()), Data: data,
		ContentType: mime.FormatMediaType(media, parameters),
	})
}

// comesBack tells whether JSON takes a state whole. One with a field that is not exported would come back without it, and decisions be made
// about a state that the events do not lead to. Other codecs have values that differ in notes of their own, and are trusted.
func (r *Repository[S, E]) comesBack(data []byte, state S) error {
	if _, ok := r.config.SnapshotCodec.(es.JSON); !ok {
		return nil
	}
	var back S
	if err := (es.JSON{}).Unmarshal(data, &back); err != nil {
		return fmt.Errorf("the state cannot be decoded from what it was encoded to: %w", err)
	}
	if !reflect.DeepEqual(state, back) {
		return fmt.Errorf("the state, a %T, does not come back as it was from JSON: export its fields, or give the repository another codec",
			state)
	}
	return nil
}
