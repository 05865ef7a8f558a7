package compare

import (
	"fmt"
	"reflect"
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
	common := commonLengths(len(got), len(want), alike)
	g, w, fromG, fromW := 0, 0, 0, 0
	for g < len(got) && w < len(want) {
		switch {
		case alike(g, w):
			l.pairUp(fromG, g, fromW, w, ignored)
			l.lines = append(l.lines, line{got: g, want: w})
			g, w = g+1, w+1
			fromG, fromW = g, w
		case common[g+1][w] >= common[g][w+1]:
			g++
		default:
			w++
		}
	}
	l.pairUp(fromG, len(got), fromW, len(want), ignored)
	return l
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

// Same tells whether the lists have the same elements in the same order.
func (l *Lists) Same() bool {
	for _, at := range l.lines {
		if at.got < 0 || at.want < 0 || len(at.differs) > 0 {
			return false
		}
	}
	return true
}

// Describe writes the two lists, a line for each element and for each field that differs, numbered from 1 as they were got.
func (l *Lists) Describe(b *strings.Builder, indent string) {
	width := len(strconv.Itoa(len(l.got)))
	for _, at := range l.lines {
		switch {
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
