package report

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/eventsourcing-go/eventsourcing/bench/internal/measure"
)

// markdown is the page of a report.
func (r *Report) markdown() string {
	var b strings.Builder
	b.WriteString(pageHead)
	b.WriteString("\n| | |\n| --- | --- |\n")
	for _, line := range r.environment.lines() {
		fmt.Fprintf(&b, "| %s | %s |\n", line[0], cell(line[1]))
	}
	fmt.Fprintf(&b, "| rounds | %s |\n", r.rounds())
	b.WriteString("\n## Summary\n")
	for i, m := range r.measurements {
		if i == 0 || m.Workload.Backend != r.measurements[i-1].Workload.Backend {
			fmt.Fprintf(&b, "\n### %s\n\n| work | ours | against | theirs ÷ ours | floor |\n| --- | ---: | --- | ---: | ---: |\n",
				cmp.Or(m.Workload.Backend, "In memory"))
		}
		summarize(&b, m)
	}
	b.WriteString(pageReading)
	for _, m := range r.measurements {
		r.detail(&b, m)
	}
	return b.String()
}

// summarize writes a row for each floor.
func summarize(b *strings.Builder, m measure.Measurement) {
	for _, f := range m.Workload.Floors {
		for _, s := range m.Series {
			if s.Contender.Name != f.Against {
				continue
			}
			fmt.Fprintf(b, "| [%s](#%s) | %s %s | %s | %sx | %.3gx |\n", cell(m.Workload.Title), m.Workload.Name,
				figure(m.Series[0].Value().Median), m.Workload.Unit, s.Contender.Name, figure(m.Ratio(s).Median), f.Ratio)
		}
	}
}

func (r *Report) detail(b *strings.Builder, m measure.Measurement) {
	fmt.Fprintf(b, "\n## %s\n\n%s.\n\n%s\n\n", m.Workload.Name, wrap(upper(m.Workload.Title)), wrap(m.Workload.About))
	fmt.Fprintf(b, "![%s](%s.svg)\n\n", m.Workload.Title, m.Workload.Name)
	if m.Workload.Unit == measure.Kept {
		b.WriteString("| contender | theirs ÷ ours | bytes kept a message | what went wrong |\n| --- | ---: | ---: | --- |\n")
	} else {
		fmt.Fprintf(b, "| contender | theirs ÷ ours | %s %s | allocations | bytes |%s what went wrong |\n",
			m.Workload.Unit, m.Workload.Unit.Of(), lapCells(m, " median ", " 99th percentile "))
		fmt.Fprintf(b, "| --- | ---: | ---: | ---: | ---: |%s --- |\n", lapCells(m, " ---: ", " ---: "))
	}
	for i, s := range m.Series {
		ratio, faults := "", "nothing"
		if i > 0 {
			ratio = times(m.Ratio(s))
		}
		if s.Faults.Any() {
			faults = fmt.Sprintf("of %d: %s", m.Handled(s), s.Faults)
		}
		if m.Workload.Unit == measure.Kept {
			fmt.Fprintf(b, "| %s | %s | %s | %s |\n", s.Contender.Name, ratio, spread(s.Value()), faults)
			continue
		}
		fmt.Fprintf(b, "| %s | %s | %s | %s | %s |%s %s |\n",
			s.Contender.Name, ratio, spread(s.Value()), allocations(m, s), allocated(m, s),
			lapCells(m, " "+lap(s.Medians)+" ", " "+lap(s.Slowest)+" "), faults)
	}
	b.WriteString("\n")
	for _, s := range m.Series {
		fmt.Fprintf(b, "%s\n", wrap(fmt.Sprintf("- %s: %s.", s.Contender.Name, s.Contender.How)))
	}
	switch {
	case m.Workload.Messages > 0:
		fmt.Fprintf(b, "- Here it is %d rounds of %s messages.\n", m.Rounds, thousands(int64(m.Workload.Messages)))
	case m.Rounds != r.plan.Rounds || m.Round != r.plan.Round:
		fmt.Fprintf(b, "- Here it is %d rounds of about %v.\n", m.Rounds, m.Round)
	}
	for _, f := range m.Workload.Floors {
		fmt.Fprintf(b, "%s\n", wrap(fmt.Sprintf("- The floor is %.3g times %s: %s.", f.Ratio, f.Against, f.Why)))
	}
	if m.Workload.MostAllocations > 0 {
		fmt.Fprintf(b, "- Ours may take %.3g allocations a message.\n", m.Workload.MostAllocations)
	}
	for _, s := range m.Series {
		if s.Faults.Any() {
			fmt.Fprintf(b, "\nTo see what went wrong with %s: `go run ./bench -only %s`.\n", s.Contender.Name, m.Workload.Name)
		}
	}
}

// lapCells are two cells of a row, where somebody looked at how long each message took.
func lapCells(m measure.Measurement, median, slowest string) string {
	if !looked(m) {
		return ""
	}
	return median + "|" + slowest + "|"
}

// wrap breaks text into lines that are not too long; those of a list item are indented.
func wrap(text string) string {
	const width = 140
	indent := ""
	if strings.HasPrefix(text, "- ") {
		indent = "  "
	}
	var lines []string
	line := ""
	for word := range strings.FieldsSeq(text) {
		switch {
		case line == "":
			line = word
		case len(line)+1+len(word) > width:
			lines = append(lines, line)
			line = indent + word
		default:
			line += " " + word
		}
	}
	return strings.Join(append(lines, line), "\n")
}

func upper(text string) string { return strings.ToUpper(text[:1]) + text[1:] }

func cell(text string) string { return strings.ReplaceAll(text, "|", `\|`) }

const pageHead = `# Benchmarks

This page and its charts are written by ` + "`make bench`" + `. [How to measure](../how-to/measure.md) says how to run it and how to add a
workload, and [ADR 10](../adr/0010-benchmarks-beside-watermill.md) why it is done like this. The figures of all rounds are in
[results.json](results.json).
`

const pageReading = `
How to read this:

- **Ratios count, nanoseconds do not.** All contenders took turns in one process on one machine, and a ratio is that of one round: theirs
  divided by ours. Above 1 ours is better. Numbers of two runs, or of two machines, cannot be compared.
- A figure is the median of the rounds, with the least and the most in parentheses. Where these are far apart the machine was busy.
- Every message is numbered. A contender has to handle each once, in the order of its stream, and to acknowledge it; what went wrong is
  counted and shown.
- Messages in memory have 256 bytes of payload and a correlation ID, and belong to 64 streams. They are made before the clock starts.
- Events on disk have 256 bytes of JSON, a UUIDv7, a correlation ID, a causation ID and an entry of metadata. What was acknowledged is
  looked for in the file when it is closed: all of it has to be there, once, in order, with the versions of its stream.
- Allocations are those of Go. SQLite's own, which are outside of its heap, are in the time alone.
- The last two columns are how long one message took from its beginning to its acknowledgement.
- A bare contender does the least that could be called the same work, without any of the promises. It shows what there is left to win.
- A floor is what a change may never fall below. It is checked by ` + "`make bench-quick`" + `.
`
