// Package index finds events: by ID, by stream and version, by category, name and tag. It keeps no truth and knows nothing of SQL;
// what it says follows from the events, and can be made again from them.
//
// Events beyond the last run are in a [Tail]. [Tail.Span] takes hold of a stretch of it, atomically with the check that the tail covers
// it; spans go into a [View], with the runs before them, and into [Build]. A span that a tail does not cover any more (others
// have cut it) is made up for by a tail of its own: NewTail(from), Add for each event that is missing, Span(from, to).
//
// [NewView] checks that runs and spans follow each other without a gap. [Run.Open] checks a run's root once, when the row is loaded.
//
// A cursor's method is SeekPosition, because go vet knows Seek as that of io.Seeker.
package index
