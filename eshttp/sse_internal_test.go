package eshttp

import (
	"bytes"
	"strings"
	"testing"
)

func TestEventsKeepTheirLines(t *testing.T) {
	t.Parallel()
	for data, want := range map[string]string{
		"":            "data: \n",
		"a":           "data: a\n",
		"a\nb":        "data: a\ndata: b\n",
		"a\r\nb\rc\n": "data: a\ndata: b\ndata: c\n" + "data: \n",
		"\n\n":        strings.Repeat("data: \n", 3),
		"a\n\nid: 5":  "data: a\n" + "data: \n" + "data: id: 5\n",
	} {
		if got := string(appendEvent(nil, "7", "k", []byte(data))); got != "id: 7\nevent: k\n"+want+"\n" {
			t.Errorf("%q is sent as %q", data, got)
		}
	}
	if got := string(appendEvent([]byte("x"), "", "", []byte("a"))); got != "xdata: a\n\n" {
		t.Errorf("without ID and type it is %q", got)
	}
}

func FuzzEventsCannotBeForged(f *testing.F) {
	f.Add([]byte("a\r\n\r\nid: 5\n\ndata: b"))
	f.Fuzz(func(t *testing.T, data []byte) {
		text := appendEvent(nil, "", "", data)
		body, ended := bytes.CutSuffix(text, []byte("\n\n"))
		if !ended || bytes.ContainsRune(text, '\r') {
			t.Fatalf("%q is sent as %q", data, text)
		}
		var lines []string
		for line := range strings.SplitSeq(string(body), "\n") {
			value, ok := strings.CutPrefix(line, "data: ")
			if !ok {
				t.Fatalf("%q has the line %q", text, line)
			}
			lines = append(lines, value)
		}
		want := strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(string(data))
		if got := strings.Join(lines, "\n"); got != want {
			t.Fatalf("%q comes as %q", data, got)
		}
	})
}
