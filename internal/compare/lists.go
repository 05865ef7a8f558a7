package compare

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// Lists is two lists of values laid side by side.
type Lists struct {
	got, want []any
	lines     []line
}

// line has an element of one list, or of both.
type line struct {
	got, want int // -1 where there is none
	differs   []Difference
}

// Align lays two lists side by side so that as many elements as possible meet their like, in order: an event too many at the front is
// then one line of the report and not all of them. Values that are alike are those that [Values] finds no difference in.
func Align(got, want []any, ignored []string) *Lists {
	l := &Lists{got: got, want: want}
	alike := func(g, w int) bool { return len(Values(got[g], want[w], ignored)) == 0 }
	// Most lists are the same, or nearly so: only what is left between the ends takes the square of its length.
	head := 0
	for head < min(len(got), len(want)) && alike(head, head) {
		l.lines = append(l.lines, line{got: head, want: head})
		head++
	}
	gotEnd, wantEnd := len(got), len(want)
	for gotEnd > head && wantEnd > head && alike(gotEnd-1, wantEnd-1) {
		gotEnd, wantEnd = gotEnd-1, wantEnd-1
	}
	l.alignMiddle(head, gotEnd, wantEnd, ignored, alike)
	for ; gotEnd < len(got); gotEnd, wantEnd = gotEnd+1, wantEnd+1 {
		l.lines = append(l.lines, line{got: gotEnd, want: wantEnd})
	}
	return l
}

// alignMiddle aligns what lies from a place in both lists to an end in each.
func (l *Lists) alignMiddle(from, gotEnd, wantEnd int, ignored []string, alike func(g, w int) bool) {
	fromG, fromW := from, from
	const most = 1_000_000 // comparisons; two lists that differ in all of more than a thousand places are read by nobody line by line
	if (gotEnd-from)*(wantEnd-from) <= most {
		common := commonLengths(gotEnd-from, wantEnd-from, func(g, w int) bool { return alike(from+g, from+w) })
		for g, w := from, from; g < gotEnd && w < wantEnd; {
			switch {
			case alike(g, w):
				l.pairUp(fromG, g, fromW, w, ignored)
				l.lines = append(l.lines, line{got: g, want: w})
				g, w = g+1, w+1
				fromG, fromW = g, w
			case common[g-from+1][w-from] >= common[g-from][w-from+1]:
				g++
			default:
				w++
			}
		}
	}
	l.pairUp(fromG, gotEnd, fromW, wantEnd, ignored)
}

// commonLengths has the length of the longest common subsequence of what follows each pair of places.
func commonLengths(n, m int, alike func(g, w int) bool) [][]int {
	lengths := make([][]int, n+1)
	for g := range lengths {
		lengths[g] = make([]int, m+1)
	}
	for g := n - 1; g >= 0; g-- {
		for w := m - 1; w >= 0; w-- {
			if alike(g, w) {
				lengths[g][w] = lengths[g+1][w+1] + 1
			} else {
				lengths[g][w] = max(lengths[g+1][w], lengths[g][w+1])
			}
		}
	}
	return lengths
}

// pairUp goes through what lies between two pairs that are alike: those of one type are taken for the same thing with other content.
func (l *Lists) pairUp(g, gotEnd, w, wantEnd int, ignored []string) {
	for ; g < gotEnd; g++ {
		partner := w
		for partner < wantEnd && reflect.TypeOf(l.got[g]) != reflect.TypeOf(l.want[partner]) {
			partner++
		}
		if partner == wantEnd {
			l.lines = append(l.lines, line{got: g, want: -1})
			continue
		}
		for ; w < partner; w++ {
			l.lines = append(l.lines, line{got: -1, want: w})
		}
		l.lines = append(l.lines, line{got: g, want: w, differs: Values(l.got[g], l.want[w], ignored)})
		w++
	}
	for ; w < wantEnd; w++ {
		l.lines = append(l.lines, line{got: -1, want: w})
	}
}

func (at line) same() bool { return at.got >= 0 && at.want >= 0 && len(at.differs) == 0 }

// Same tells whether the lists have the same elements in the same order.
func (l *Lists) Same() bool {
	return !slices.ContainsFunc(l.lines, func(at line) bool { return !at.same() })
}

// Describe writes the two lists, a line for each element and for each field that differs, numbered from 1 as they were got. Many in a row
// that are as wanted take one line, and of very many that are not the first ones are written.
func (l *Lists) Describe(b *strings.Builder, indent string) {
	const (
		mostSame = 5
		most     = 40
	)
	width := len(strconv.Itoa(len(l.got)))
	wrong := 0
	for i := 0; i < len(l.lines); i++ {
		at := l.lines[i]
		if !at.same() {
			if wrong++; wrong > most {
				fmt.Fprintf(b, "%sand more: %d in all, want %d\n", indent, len(l.got), len(l.want))
				return
			}
		}
		switch end := l.sameUntil(i); {
		case end-i > mostSame:
			fmt.Fprintf(b, "%s%*d as wanted   and so are those up to %d\n", indent, width, at.got+1, at.got+end-i)
			i = end - 1
		case at.got < 0:
			fmt.Fprintf(b, "%s%*s missing     %s\n", indent, width, "", Clip(Text(l.want[at.want])))
		case at.want < 0:
			fmt.Fprintf(b, "%s%*d unexpected  %s\n", indent, width, at.got+1, Clip(Text(l.got[at.got])))
		case len(at.differs) > 0:
			fmt.Fprintf(b, "%s%*d differs     %s\n", indent, width, at.got+1, Clip(Text(l.got[at.got])))
			Describe(b, indent+strings.Repeat(" ", width+len(" unexpected  ")), at.differs)
		default:
			fmt.Fprintf(b, "%s%*d as wanted   %s\n", indent, width, at.got+1, Clip(Text(l.got[at.got])))
		}
	}
}

// sameUntil is where a row of lines that are as wanted ends.
func (l *Lists) sameUntil(i int) int {
	for i < len(l.lines) && l.lines[i].same() {
		i++
	}
	return i
}

// Describe writes differences, a line for each, and of many the first.
func Describe(b *strings.Builder, indent string, differs []Difference) {
	const most = 12
	for i, d := range differs {
		if i == most {
			fmt.Fprintf(b, "%sand %d more\n", indent, len(differs)-most)
			return
		}
		fmt.Fprintf(b, "%s%s\n", indent, d)
	}
}

// DescribeList writes the elements of a list, a line for each, numbered from 1, and of a long one the last.
func DescribeList(b *strings.Builder, indent string, list []any) {
	const most = 20
	first := max(0, len(list)-most)
	if first > 0 {
		fmt.Fprintf(b, "%s(%d before)\n", indent, first)
	}
	width := len(strconv.Itoa(len(list)))
	for i, v := range list[first:] {
		fmt.Fprintf(b, "%s%*d %s\n", indent, width, first+i+1, Clip(Text(v)))
	}
}
