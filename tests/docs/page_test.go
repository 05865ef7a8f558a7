package docs_test

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode"
)

// page is what the checker wants to know of a Markdown file.
type page struct {
	blocks   []block
	links    []link
	anchors  []string // of its headings, as GitHub makes them
	problems []string // each begins with the number of a line
}

// block is fenced code.
type block struct {
	line     int // of its fence
	language string
	lines    []string // dedented, without spaces at their ends and without empty lines around
	marked   bool     // as not compiled
}

type link struct {
	line   int
	target string
}

var (
	fence     = regexp.MustCompile("^(\\s*)(```+|~~~+)\\s*([^\\s`{]*)[^`]*$")
	marker    = regexp.MustCompile(`^\s*<!--\s*not compiled:\s*(.*?)\s*-->\s*$`)
	heading   = regexp.MustCompile(`^#{1,6}\s+(.*?)(?:\s+#+)?\s*$`)
	codeSpan  = regexp.MustCompile("``.*?``|`[^`]*`")
	inline    = regexp.MustCompile(`\]\(\s*<?([^()\s<>]+)>?(?:\s+["'(][^)]*)?\s*\)`)
	reference = regexp.MustCompile(`^\s*\[[^\]]+\]:\s*<?([^\s<>]+)>?`)
	linkText  = regexp.MustCompile(`!?\[([^\]]*)\]\([^)]*\)`)
)

// parsePage reads as much of Markdown as the pages use.
func parsePage(text string) page {
	var p page
	var open *block // the block that is not closed yet
	var closing string
	var raw []string
	marked := 0 // the line of a marker that waits for its block
	for i, line := range trimmedLines(text) {
		number := i + 1
		if open != nil {
			if end := strings.TrimSpace(line); strings.HasPrefix(end, closing) && strings.Trim(end, closing[:1]) == "" {
				open.lines = dedent(raw)
				p.blocks = append(p.blocks, *open)
				open, raw = nil, nil
				continue
			}
			raw = append(raw, line)
			continue
		}
		if m := fence.FindStringSubmatch(line); m != nil {
			open = &block{line: number, language: strings.ToLower(m[3]), marked: marked == number-1 && marked > 0}
			closing, marked = m[2], 0
			continue
		}
		if marked > 0 {
			p.problem(marked, "the marker \"not compiled\" is not right above a block")
			marked = 0
		}
		if m := marker.FindStringSubmatch(line); m != nil {
			marked = number
			if m[1] == "" {
				p.problem(number, "the marker \"not compiled\" gives no reason")
			}
			continue
		}
		p.readLine(number, line)
	}
	if open != nil {
		p.problem(open.line, "the block is not closed")
	}
	if marked > 0 {
		p.problem(marked, "the marker \"not compiled\" is not right above a block")
	}
	return p
}

func (p *page) problem(line int, text string) {
	p.problems = append(p.problems, fmt.Sprintf("%d: %s", line, text))
}

// readLine reads a line that is not code.
func (p *page) readLine(number int, line string) {
	if m := heading.FindStringSubmatch(line); m != nil {
		p.addAnchor(m[1])
	}
	// What is in a code span is no link, but a code span may be the text of one.
	prose := codeSpan.ReplaceAllString(line, "")
	if m := reference.FindStringSubmatch(prose); m != nil {
		p.links = append(p.links, link{number, m[1]})
		return
	}
	for _, m := range inline.FindAllStringSubmatch(prose, -1) {
		p.links = append(p.links, link{number, m[1]})
	}
}

// addAnchor adds the anchor of a heading: in lower case, letters, digits, "-" and "_" only, with "-" for spaces, and a number
// when it was there before.
func (p *page) addAnchor(title string) {
	title = linkText.ReplaceAllString(title, "$1")
	base := strings.Map(func(r rune) rune {
		switch {
		case r == ' ':
			return '-'
		case r == '-', r == '_', unicode.IsLetter(r), unicode.IsDigit(r):
			return unicode.ToLower(r)
		}
		return -1
	}, title)
	anchor := base
	for n := 1; slices.Contains(p.anchors, anchor); n++ {
		anchor = fmt.Sprintf("%s-%d", base, n)
	}
	p.anchors = append(p.anchors, anchor)
}

// trimmedLines splits a text into lines without the spaces at their ends.
func trimmedLines(text string) []string {
	lines := strings.Split(text, "\n")
	for i := range lines {
		lines[i] = strings.TrimRightFunc(lines[i], unicode.IsSpace)
	}
	return lines
}

// dedent takes off the indentation that all lines have in common, and empty lines at both ends.
func dedent(lines []string) []string {
	for len(lines) > 0 && lines[0] == "" {
		lines = lines[1:]
	}
	for len(lines) > 0 && lines[len(lines)-1] == "" {
		lines = lines[:len(lines)-1]
	}
	common, found := "", false
	for _, line := range lines {
		if line == "" {
			continue
		}
		indent := line[:len(line)-len(strings.TrimLeft(line, " \t"))]
		if !found {
			common, found = indent, true
		}
		for !strings.HasPrefix(indent, common) {
			common = common[:len(common)-1]
		}
	}
	dedented := make([]string, len(lines))
	for i, line := range lines {
		dedented[i] = strings.TrimPrefix(line, common)
	}
	return dedented
}
