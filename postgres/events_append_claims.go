package postgres

import (
	"context"
	"slices"

	"github.com/jackc/pgx/v5"

	es "github.com/eventsourcing-go/eventsourcing"
)

// Appends that must not overlap find each other by advisory locks, which end with their transactions. An append claims
//
//   - each of its streams, exclusively, as every edit of a stream does;
//   - the tags and the names of its events, and the whole store, all shared;
//   - for each criterion of its conditions one of the tags exclusively, else the names, else the whole store.
//
// So an append that has a condition waits for every append that is under way and could break it, and those that come later wait for
// it, wherever their positions were drawn. It counts what matches in a later statement, which sees what those have committed.
//
// The locks of a database have a table of fixed size, so tags and names are hashed into a bounded number of buckets. Those that share
// one wait for each other without need, and never the other way round.
type claims struct {
	streams   []int64  // keys of locks, sorted; see manyStreams
	exclusive []bucket // sorted
	shared    []bucket // sorted, and none of them is among the exclusive ones
}

// bucket stands for some tags, for some names, or for the whole store.
type bucket uint16

const (
	wholeStore  bucket = 0
	firstName   bucket = 1
	firstTag    bucket = 64 // there are fewer names than tags
	bucketCount        = 1024
	// manyStreams is how many streams an append locks one by one. One with more locks the whole store instead.
	manyStreams = 256
)

// clear makes it what nothing claims.
func (c *claims) clear() {
	c.streams, c.exclusive, c.shared = c.streams[:0], c.exclusive[:0], c.shared[:0]
}

// claimsOf returns what an append claims.
func (l *lanes) claimsOf(a *es.Append) (c claims) {
	l.claim(&c, a)
	return c
}

// claim puts down what an append claims.
func (l *lanes) claim(c *claims, a *es.Append) {
	c.streams, c.exclusive, c.shared = c.streams[:0], c.exclusive[:0], append(c.shared[:0], wholeStore)
	for i := range a.Streams {
		s := &a.Streams[i]
		c.streams = append(c.streams, l.streamKey(s.Stream))
		for _, m := range s.Events {
			c.shared = append(c.shared, bucketOf(m.Name, firstName, firstTag))
			for _, tag := range m.Tags {
				c.shared = append(c.shared, bucketOf(tag, firstTag, bucketCount))
			}
		}
	}
	for i := range a.Unless {
		for _, criterion := range a.Unless[i].Match {
			c.exclude(criterion)
		}
	}
	slices.Sort(c.streams)
	c.exclusive, c.shared = sortedSet(c.exclusive), sortedSet(c.shared)
	if len(c.exclusive) > 0 {
		c.shared = slices.DeleteFunc(c.shared, func(b bucket) bool {
			_, both := slices.BinarySearch(c.exclusive, b)
			return both
		})
	}
}

// exclude claims what every event has that meets a criterion.
func (c *claims) exclude(criterion es.Criterion) {
	switch {
	case len(criterion.Tags) > 0:
		c.exclusive = append(c.exclusive, bucketOf(criterion.Tags[0], firstTag, bucketCount))
	case len(criterion.Names) > 0:
		for _, name := range criterion.Names {
			c.exclusive = append(c.exclusive, bucketOf(name, firstName, firstTag))
		}
	default:
		c.exclusive = append(c.exclusive, wholeStore)
	}
}

func sortedSet(b []bucket) []bucket {
	if len(b) < 2 {
		return b
	}
	slices.Sort(b)
	return slices.Compact(b)
}

// bucketOf returns the bucket of a tag or name, from a range.
func bucketOf(text string, from, to bucket) bucket {
	return from + bucket(hashText(hashSeed, text)%uint64(to-from)) //nolint:gosec // it is less than to
}

// streamKey is the key of the lock of a stream. Two streams may have the same one, and wait for each other then without need.
func (l *lanes) streamKey(stream string) int64 {
	return int64(hashText(uint64(l.keys), stream)) //nolint:gosec // any number is as good
}

// bucketKey is the key of the lock of a bucket.
func (l *lanes) bucketKey(b bucket) int64 { return l.keys&^(bucketCount-1) | int64(b) }

// hashSeed and hashText are the hash FNV-1a of 64 bits, which is the same in every process.
const hashSeed = 14695981039346656037

func hashText(seed uint64, text string) uint64 {
	for i := range len(text) {
		seed = (seed ^ uint64(text[i])) * 1099511628211
	}
	return seed
}

// lockArguments returns the arguments of the statement that takes the locks, in the order in which everybody takes them: streams before
// buckets, so that who waits for a stream, which may be long, holds up nobody else; and the whole store last.
func (l *lanes) lockArguments(c claims) []any {
	size := len(c.streams) + len(c.exclusive) + len(c.shared)
	keys, exclusive := make([]int64, 0, size), make([]bool, 0, size)
	many := len(c.streams) > manyStreams
	if !many {
		for _, key := range c.streams {
			keys, exclusive = append(keys, key), append(exclusive, true)
		}
	}
	e, s := len(c.exclusive), len(c.shared)
	for e > 0 || s > 0 {
		if s == 0 || e > 0 && c.exclusive[e-1] > c.shared[s-1] {
			e--
			keys, exclusive = append(keys, l.bucketKey(c.exclusive[e])), append(exclusive, true)
		} else {
			s--
			keys, exclusive = append(keys, l.bucketKey(c.shared[s])), append(exclusive, many && c.shared[s] == wholeStore)
		}
	}
	return []any{keys, exclusive}
}

// lockStream takes the lock of a stream for the rest of a transaction, as an append to it does, for who edits it. What is looked at in
// a later statement (in READ COMMITTED) stays so until the transaction ends.
func (l *lanes) lockStream(ctx context.Context, tx pgx.Tx, stream string) error {
	_, err := tx.Exec(ctx, l.sql.lock, l.lockArguments(claims{streams: []int64{l.streamKey(stream)}, shared: []bucket{wholeStore}})...)
	return fault(err)
}
