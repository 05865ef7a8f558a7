package postgres

import (
	"encoding/json"
	"fmt"
	"hash/maphash"
	"strings"
)

// texts makes strings of texts in rows. Those that were read before, as names, tenants and the streams of a batch are again and again, it
// has kept, and makes no copy of them; the others are copied one behind the other into pieces of memory that they share. It keeps few, and
// none that is long: a text that is new takes the place of another one.
type texts struct {
	seed     maphash.Seed
	piece    strings.Builder
	kept     [128]string
	metadata [32]keptMetadata
}

type keptMetadata struct {
	text string
	read map[string]string // of the text
}

const (
	longestKept = 255
	// pieceBytes is how much memory small texts share, and small data. Who keeps one message keeps as much.
	pieceBytes = 16 << 10
	// ownPiece is from how many bytes on a text, or data, has memory of its own.
	ownPiece = pieceBytes / 8
)

func newTexts() texts { return texts{seed: maphash.MakeSeed()} }

// forget lets go of what was kept.
func (t *texts) forget() {
	clear(t.kept[:])
	clear(t.metadata[:])
}

// copied returns a text that is not expected again.
func (t *texts) copied(text []byte) string {
	if len(text) >= ownPiece {
		return string(text)
	}
	if t.piece.Cap()-t.piece.Len() < len(text) {
		t.piece.Reset()
		t.piece.Grow(pieceBytes)
	}
	from := t.piece.Len()
	t.piece.Write(text) // within what there is room for, so that the strings before it stay where they are
	return t.piece.String()[from:]
}

// shared returns a text that may be expected again.
func (t *texts) shared(text []byte) string {
	if len(text) == 0 || len(text) > longestKept {
		return t.copied(text)
	}
	place := &t.kept[maphash.Bytes(t.seed, text)%uint64(len(t.kept))]
	if *place != string(text) {
		*place = t.copied(text)
	}
	return *place
}

// decodeMetadata returns the metadata that is in a text. Messages with the same metadata share it, as they are read-only.
func (t *texts) decodeMetadata(text []byte) (map[string]string, error) {
	if len(text) == 0 {
		return nil, nil //nolint:nilnil // it is what a message without metadata has
	}
	if len(text) > longestKept {
		return decodeMetadata(t.copied(text))
	}
	place := &t.metadata[maphash.Bytes(t.seed, text)%uint64(len(t.metadata))]
	if place.text == string(text) {
		return place.read, nil
	}
	key := t.copied(text)
	read, err := decodeMetadata(key)
	if err == nil {
		*place = keptMetadata{key, read}
	}
	return read, err
}

// decodeMetadata reads what encodeMetadata has written, and nil from the empty text. The metadata shares the memory of the text.
func decodeMetadata(text string) (map[string]string, error) {
	if text == "" {
		return nil, nil //nolint:nilnil // it is what a message without metadata has
	}
	if metadata, ok := plainMetadata(text); ok {
		return metadata, nil
	}
	var metadata map[string]string
	if err := json.Unmarshal([]byte(text), &metadata); err != nil {
		return nil, fmt.Errorf("its metadata is %q, which is no JSON object of strings: %w", text, err)
	}
	return metadata, nil
}

// plainMetadata reads an object of strings without white space around them and without escapes in them, as most are.
func plainMetadata(text string) (map[string]string, bool) {
	if strings.Contains(text, `\`) {
		return nil, false
	}
	metadata := make(map[string]string, strings.Count(text, `":"`))
	for before := byte('{'); ; before = ',' {
		key, rest, ok := cutString(text, before)
		if !ok {
			return nil, false
		}
		value, rest, ok := cutString(rest, ':')
		if !ok {
			return nil, false
		}
		metadata[key] = value
		if rest == "}" {
			return metadata, true
		}
		text = rest
	}
}

// cutString cuts a character and the string in quotes that follows it off a text.
func cutString(text string, before byte) (value, rest string, ok bool) {
	if len(text) < 2 || text[0] != before || text[1] != '"' {
		return "", "", false
	}
	return strings.Cut(text[2:], `"`)
}
