package index

import (
	"bytes"
	"errors"
)

// Merge makes one run of adjacent runs, the oldest first. It holds a few blocks of each of them at a time; emit is as in [Build], so
// that a merge can go on over many transactions.
//
// Each block is read once, so blocks need no cache, and should not go through one that others use.
func Merge(id int64, runs []Run, blocks Blocks, emit func(number int, block []byte) error) (Run, error) {
	return merge(id, runs, blocks, usualLimits(), emit)
}

func merge(id int64, runs []Run, blocks Blocks, l limits, emit func(number int, block []byte) error) (Run, error) {
	merged, err := adjacent(id, runs)
	if err != nil {
		return Run{}, err
	}
	inputs := make([]*scanner, len(runs))
	for i := range runs {
		if inputs[i], err = newScanner(runs[i], blocks); err != nil {
			return Run{}, err
		}
	}
	w := newRunWriter(merged, l, emit)
	for len(inputs) > 0 {
		s, until := next(inputs)
		if err := s.copyTo(w, until); err != nil {
			return Run{}, err
		}
		inputs = without(inputs, s)
	}
	return w.finish()
}

// adjacent returns a run in the place of some that are adjacent.
func adjacent(id int64, runs []Run) (Run, error) {
	if len(runs) == 0 {
		return Run{}, errors.New("index: there are no runs to merge")
	}
	merged := Run{ID: id, Base: runs[0].Base, Last: runs[0].Base}
	for _, r := range runs {
		if r.Base != merged.Last {
			return Run{}, &GapError{merged.Last, r.Base}
		}
		merged.Last, merged.Level = r.Last, max(merged.Level, r.Level+1)
	}
	return merged, nil
}

// next returns the input that has the least entry, the oldest of them, and the input whose turn is then, or nil. Positions are
// in the order of the runs, so that of entries with the same key those of the older run come first.
func next(inputs []*scanner) (first, second *scanner) {
	first = inputs[0]
	for _, s := range inputs[1:] {
		switch {
		case bytes.Compare(s.key[:], first.key[:]) < 0:
			first, second = s, first
		case second == nil || bytes.Compare(s.key[:], second.key[:]) < 0:
			second = s
		}
	}
	return first, second
}

// without returns the inputs without one of them, if that has come to its end.
func without(inputs []*scanner, s *scanner) []*scanner {
	if !s.done {
		return inputs
	}
	kept := inputs[:0]
	for _, other := range inputs {
		if other != s {
			kept = append(kept, other)
		}
	}
	return kept
}

// RunsPerMerge is how many runs of a level become one of the next.
const RunsPerMerge = 8

// Due returns which adjacent runs are to be merged next, as a part of runs, which go from the oldest to the newest. It is empty
// when there is nothing to do.
func Due(runs []Run) []Run {
	var due []Run
	for start := 0; start < len(runs); {
		end := start + 1
		for end < len(runs) && runs[end].Level == runs[start].Level {
			end++
		}
		if end-start >= RunsPerMerge && (due == nil || runs[start].Level < due[0].Level) {
			due = runs[start : start+RunsPerMerge]
		}
		start = end
	}
	return due
}
