package report

import (
	"bytes"
	"encoding/xml"
	"fmt"

	"github.com/eventsourcing-go/eventsourcing/bench/internal/measure"
)

// The sizes of a chart, in pixels.
const (
	chartWidth = 800
	nameWidth  = 210
	barsWidth  = 260
	rowHeight  = 30
	headHeight = 62
)

// chart draws a bar for each contender, from zero, with the least and the most of the rounds as a thin line, and how ours
// compares beside it. Ours has a color of its own; the colors follow the theme of the reader.
func chart(m measure.Measurement) []byte {
	var b bytes.Buffer
	height := headHeight + rowHeight*len(m.Series) + 10
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" role="img">`+"\n",
		chartWidth, height, chartWidth, height)
	fmt.Fprintf(&b, "<title>%s</title>\n%s", escape(m.Workload.Title), chartStyle)
	fmt.Fprintf(&b, `<text class="head" x="10" y="24">%s</text>`+"\n", escape(m.Workload.Title))
	fmt.Fprintf(&b, `<text class="note" x="10" y="44">%s %s, less is better; median, least and most of %d rounds</text>`+"\n",
		m.Workload.Unit, m.Workload.Unit.Of(), len(m.Series[0].Values))
	longest := 0.0
	for _, s := range m.Series {
		longest = max(longest, s.Value().Max)
	}
	for i, s := range m.Series {
		bar(&b, headHeight+rowHeight*i, m, i, s, barsWidth/longest)
	}
	b.WriteString("</svg>\n")
	return b.Bytes()
}

const chartStyle = `<style>
text { font: 13px system-ui, sans-serif; fill: #1f2328 }
.head { font-weight: 600; font-size: 15px }
.note { fill: #59636e }
.wrong { fill: #cf222e }
.other { fill: #8c959f }
.ours { fill: #0969da }
.range { stroke: #1f2328; stroke-width: 1.5 }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 }
.note { fill: #9198a1 }
.wrong { fill: #ff7b72 }
.other { fill: #6e7681 }
.ours { fill: #4493f8 }
.range { stroke: #e6edf3 }
}
</style>
`

// bar draws the row of a contender.
func bar(b *bytes.Buffer, top int, m measure.Measurement, place int, s measure.Series, scale float64) {
	value := s.Value()
	class, label := "other", figure(value.Median)
	if place == 0 {
		class = "ours"
	} else {
		label += " · ours " + better(m.Ratio(s).Median)
	}
	middle := top + rowHeight/2
	fmt.Fprintf(b, `<text x="%d" y="%d" text-anchor="end">%s</text>`+"\n", nameWidth, middle+4, escape(s.Contender.Name))
	fmt.Fprintf(b, `<rect class="%s" x="%d" y="%d" width="%.1f" height="%d" rx="2"/>`+"\n",
		class, nameWidth+10, top+5, max(value.Median*scale, 1), rowHeight-10)
	fmt.Fprintf(b, `<line class="range" x1="%.1f" y1="%d" x2="%.1f" y2="%d"/>`+"\n",
		nameWidth+10+value.Min*scale, middle, nameWidth+10+value.Max*scale, middle)
	fmt.Fprintf(b, `<text x="%.1f" y="%d">%s`, nameWidth+18+value.Max*scale, middle+4, escape(label))
	if s.Faults.Any() {
		fmt.Fprintf(b, ` <tspan class="wrong">%s</tspan>`, escape(brief(m, s)))
	}
	b.WriteString("</text>\n")
}

// better says how ours compares.
func better(ratio float64) string {
	if ratio >= 1 {
		return figure(ratio) + "x better"
	}
	return figure(1/ratio) + "x worse"
}

// brief says what share of the messages went wrong, in the words that weigh most.
func brief(m measure.Measurement, s measure.Series) string {
	share := func(n int64) string {
		return fmt.Sprintf("%.3g%%", 100*float64(n)/float64(m.Handled(s)))
	}
	switch {
	case s.Faults.Lost > 0:
		return share(s.Faults.Lost) + " lost"
	case s.Faults.Repeated > 0:
		return share(s.Faults.Repeated) + " twice"
	}
	return share(s.Faults.Reordered) + " out of order"
}

func escape(text string) string {
	var b bytes.Buffer
	_ = xml.EscapeText(&b, []byte(text)) // a buffer takes everything
	return b.String()
}
