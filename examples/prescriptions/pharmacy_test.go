package main

import (
	"slices"
	"testing"
)

func TestFindings(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		find func(string) []string
		text string
		want []string
	}{
		"an interaction":             {findInteractions, "Warfarin 5 mg, Ibuprofen 400 mg", []string{"warfarin with ibuprofen: bleeding"}},
		"no interaction":             {findInteractions, "Amoxicillin 500 mg", []string{}},
		"a part of a word is no one": {findInteractions, "Warfarinal, ibuprofen", []string{}},
		"two of a class":             {findDuplicates, "ibuprofen, naproxen", []string{"ibuprofen and naproxen: painkiller (NSAID)"}},
		"the same twice":             {findDuplicates, "simvastatin; simvastatin", []string{"simvastatin and simvastatin: statin"}},
		"no duplicate":               {findDuplicates, "simvastatin, ibuprofen", []string{}},
		"a contraindication":         {findContraindications, "Asthma. Propranolol 40 mg", []string{"propranolol with asthma: narrows the airways"}},
		"no contraindication":        {findContraindications, "Asthma. Ibuprofen", []string{}},
	} {
		if got := tt.find(tt.text); !slices.Equal(got, tt.want) {
			t.Errorf("%s: in %q are %q, want %q", name, tt.text, got, tt.want)
		}
	}
}

func TestTextOf(t *testing.T) {
	t.Parallel()
	if got := textOf("text/plain", []byte("Warfarin für Ä")); got != "Warfarin für Ä" {
		t.Errorf("text gives %q", got)
	}
	if got := textOf("image/png", []byte("\x89PNG\x00Warfarin 5 mg\x00\x01ab\x02Ibuprofen")); got != "Warfarin 5 mg\nIbuprofen" {
		t.Errorf("bytes give %q", got)
	}
}
