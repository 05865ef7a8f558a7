package main

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// What this pharmacy knows. A real one would ask a database of medicines.
var (
	// classes are groups of medicines that do the same; two of one class are a duplicate.
	classes = map[string]string{ //nolint:gochecknoglobals // a table
		"ibuprofen": "painkiller (NSAID)", "naproxen": "painkiller (NSAID)", "aspirin": "painkiller (NSAID)",
		"warfarin": "anticoagulant", "apixaban": "anticoagulant",
		"simvastatin": "statin", "atorvastatin": "statin",
		"propranolol": "beta blocker", "metoprolol": "beta blocker",
		"clarithromycin": "antibiotic (macrolide)", "amoxicillin": "antibiotic (penicillin)",
	}
	// interactions are pairs that must not be taken together, and why.
	interactions = []rule{ //nolint:gochecknoglobals // a table
		{"warfarin", "ibuprofen", "bleeding"}, {"warfarin", "aspirin", "bleeding"}, {"warfarin", "naproxen", "bleeding"},
		{"simvastatin", "clarithromycin", "muscle damage"}, {"warfarin", "clarithromycin", "bleeding"},
	}
	// contraindications are conditions under which a medicine must not be taken, and why.
	contraindications = []rule{ //nolint:gochecknoglobals // a table
		{"asthma", "propranolol", "narrows the airways"}, {"ulcer", "ibuprofen", "bleeding"}, {"ulcer", "aspirin", "bleeding"},
		{"ulcer", "naproxen", "bleeding"}, {"pregnancy", "warfarin", "harms the child"}, {"pregnancy", "simvastatin", "harms the child"},
	}
)

type rule struct{ one, other, why string }

// textOf extracts the text of an upload. Text is text; of anything else it takes what can be read in it, as far as that goes: a
// picture wants an engine for optical character recognition in this place.
func textOf(contentType string, data []byte) string {
	if strings.HasPrefix(contentType, "text/") && utf8.Valid(data) {
		return string(data)
	}
	const shortest = 4 // of what counts as text
	readable := func(r rune) bool { return r < utf8.RuneSelf && (unicode.IsPrint(r) || r == '\n') }
	runs := strings.FieldsFunc(string(data), func(r rune) bool { return !readable(r) })
	return strings.Join(slices.DeleteFunc(runs, func(run string) bool { return len(run) < shortest }), "\n")
}

// wordsOf returns the words of a text, in lower case.
func wordsOf(text string) []string {
	return strings.FieldsFunc(strings.ToLower(text), func(r rune) bool { return !unicode.IsLetter(r) })
}

// medicinesIn returns the medicines that a text names, as often as it names them.
func medicinesIn(text string) []string {
	return slices.DeleteFunc(wordsOf(text), func(word string) bool { return classes[word] == "" })
}

func findInteractions(text string) []string {
	return apply(interactions, medicinesIn(text), "%s with %s: %s")
}

func findContraindications(text string) []string {
	return apply(contraindications, wordsOf(text), "%[2]s with %[1]s: %[3]s")
}

// apply returns what the rules say of words that stand in one text.
func apply(rules []rule, words []string, format string) []string {
	found := []string{}
	for _, r := range rules {
		if slices.Contains(words, r.one) && slices.Contains(words, r.other) {
			found = append(found, fmt.Sprintf(format, r.one, r.other, r.why))
		}
	}
	return found
}

func findDuplicates(text string) []string {
	byClass := map[string][]string{}
	found := []string{}
	for _, medicine := range medicinesIn(text) {
		class := classes[medicine]
		for _, before := range byClass[class] {
			found = append(found, fmt.Sprintf("%s and %s: %s", before, medicine, class))
		}
		byClass[class] = append(byClass[class], medicine)
	}
	return found
}
