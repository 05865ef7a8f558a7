package eshttp

import (
	"bytes"
	"encoding/json"
	"net/url"
	"strconv"
	"strings"
)

// step is where the reading of JSON stands within an array or an object.
type step struct {
	object bool
	named  bool   // in an object: the name was read, and its value comes next
	name   string // of the member
	index  int    // of the element
}

// pointerAt returns a JSON Pointer, as a URI fragment, to the value in valid JSON that was being read when so many bytes had
// been, and the name of the innermost member that it is in. It goes by what was sent, and so knows no names of Go.
func pointerAt(data []byte, offset int64) (pointer, member string) {
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.UseNumber()
	var path []*step
	for {
		token, err := decoder.Token()
		if err != nil {
			return "#", ""
		}
		var in step // of no array or object, at first
		top := &in
		if len(path) > 0 {
			top = path[len(path)-1]
		}
		name, text := token.(string)
		if text && top.object && !top.named {
			top.name, top.named = name, true
			continue
		}
		if token == json.Delim(']') || token == json.Delim('}') {
			path = path[:len(path)-1]
			continue
		}
		top.index++
		top.named = false
		if decoder.InputOffset() >= offset {
			return pointerOf(path)
		}
		if token == json.Delim('[') || token == json.Delim('{') {
			path = append(path, &step{object: token == json.Delim('{'), index: -1})
		}
	}
}

func pointerOf(path []*step) (pointer, member string) {
	escape := strings.NewReplacer("~", "~0", "/", "~1") // RFC 6901, section 3
	var b strings.Builder
	b.WriteByte('#')
	for _, s := range path {
		name := strconv.Itoa(s.index)
		if s.object {
			name, member = s.name, s.name
		}
		b.WriteByte('/')
		b.WriteString(url.PathEscape(escape.Replace(name)))
	}
	return b.String(), member
}
