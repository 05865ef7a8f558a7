package main

import (
	"testing"

	"github.com/eventsourcing-go/eventsourcing/examples/internal/servicetest"
)

// TestAPrescriptionIsCheckedByAllAlthoughTheProgramIsKilled kills the program with kill -9 as soon as it has accepted a file, and again when a
// first finding is listed. In the end each check has found what it has to find, once.
func TestAPrescriptionIsCheckedByAllAlthoughTheProgramIsKilled(t *testing.T) {
	t.Parallel()
	setup := servicetest.Setup{Dir: t.TempDir(), Args: []string{"-lease", "500ms"}}
	start := func() *servicetest.Service {
		s := program.Launch(t, setup)
		s.AwaitListening()
		return s
	}
	const empty = `{"projections":[]}`

	s := start()
	a := uploadFile(t, s, "text/plain", []byte("Warfarin 5 mg\nIbuprofen 400 mg\n"))
	s.Kill()
	s = start()
	s.Await("/projections/", func(answer string) bool { return answer != empty })
	s.Kill()
	s = start()
	found := await(t, s, a.Prescription)
	for event, p := range found {
		if p.CorrelationID != a.CorrelationID || p.CausationID != found["DuplicatesChecked"].CausationID {
			t.Errorf("%s is %+v; want the correlation ID of the upload, and the cause that all have", event, p)
		}
	}
	s.Stop()

	s = start()
	await(t, s, a.Prescription)
}
