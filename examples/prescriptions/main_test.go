package main

import (
	"bytes"
	"encoding/json"
	"io"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/eventsourcing-go/eventsourcing/examples/internal/servicetest"
)

var program servicetest.Program

func TestMain(m *testing.M) { os.Exit(servicetest.Run(m, &program)) }

// form makes a multipart body with one part.
func form(t *testing.T, name, contentType string, data []byte) (kind string, body io.Reader) {
	t.Helper()
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	header := textproto.MIMEHeader{"Content-Disposition": {`form-data; name="` + name + `"; filename="p.txt"`}}
	if contentType != "" {
		header.Set("Content-Type", contentType)
	}
	part, err := w.CreatePart(header)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := part.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return w.FormDataContentType(), &b
}

type accepted struct {
	Accepted      bool   `json:"accepted"`
	Prescription  string `json:"prescription"`
	CorrelationID string `json:"correlation_id"`
}

func uploadFile(t *testing.T, s *servicetest.Service, contentType string, data []byte) accepted {
	t.Helper()
	kind, body := form(t, "file", contentType, data)
	status, _, answer := s.Do(http.MethodPost, "/upload_prescription/", kind, body)
	var a accepted
	if err := json.Unmarshal([]byte(answer), &a); err != nil || status != http.StatusOK || !a.Accepted || a.Prescription == "" {
		t.Fatalf("the upload is answered by %d %s", status, answer)
	}
	return a
}

// await waits for what the three checks have found, and returns it by the name of the event.
func await(t *testing.T, s *servicetest.Service, prescription string) map[string]projection {
	t.Helper()
	var list struct {
		Projections []projection `json:"projections"`
	}
	s.Await("/projections/?prescription="+prescription, func(answer string) bool {
		list.Projections = nil
		if err := json.Unmarshal([]byte(answer), &list); err != nil {
			t.Fatal(err)
		}
		return len(list.Projections) >= 3
	})
	byEvent := map[string]projection{}
	for _, p := range list.Projections {
		byEvent[p.Event] = p
	}
	if len(list.Projections) != 3 || len(byEvent) != 3 {
		t.Errorf("the projections are %+v, want one of each check", list.Projections)
	}
	return byEvent
}

func TestAPrescriptionIsCheckedByAll(t *testing.T) {
	s := program.Start(t)
	a := uploadFile(t, s, "text/plain", []byte("Patient with an ulcer\nWarfarin 5 mg\nIbuprofen 400 mg\nNaproxen 250 mg\n"))
	found := await(t, s, a.Prescription)
	for event, want := range map[string][]string{
		"InteractionsChecked":      {"warfarin with ibuprofen: bleeding", "warfarin with naproxen: bleeding"},
		"DuplicatesChecked":        {"ibuprofen and naproxen: painkiller (NSAID)"},
		"ContraindicationsChecked": {"ibuprofen with ulcer: bleeding", "naproxen with ulcer: bleeding"},
	} {
		p := found[event]
		slices.Sort(p.Found)
		if !slices.Equal(p.Found, want) {
			t.Errorf("%s found %q, want %q", event, p.Found, want)
		}
		if p.CorrelationID != a.CorrelationID {
			t.Errorf("%s has the correlation ID %q, want that of the upload, %q", event, p.CorrelationID, a.CorrelationID)
		}
		if p.CausationID == "" || p.CausationID != found["DuplicatesChecked"].CausationID {
			t.Errorf("%s was caused by %q, want the one OCRCompleted that led to all three", event, p.CausationID)
		}
	}
}

func TestAFileOfTenMebibytes(t *testing.T) {
	s := program.Start(t)
	larger := make([]byte, maxFile+1)
	data := larger[:maxFile]
	copy(data[maxFile/2:], "Simvastatin 20 mg")
	copy(data[maxFile-30:], "Clarithromycin 500 mg")
	found := await(t, s, uploadFile(t, s, "image/png", data).Prescription)
	if got := found["InteractionsChecked"].Found; !slices.Equal(got, []string{"simvastatin with clarithromycin: muscle damage"}) {
		t.Errorf("found %q", got)
	}
	kind, body := form(t, "file", "image/png", larger)
	if status, _, answer := s.Do(http.MethodPost, "/upload_prescription/", kind, body); status != http.StatusRequestEntityTooLarge {
		t.Errorf("a byte more is answered by %d %s", status, answer)
	}
}

func TestManyPrescriptionsAtOnce(t *testing.T) {
	s := program.Start(t)
	all := make([]accepted, 40)
	for i := range all {
		all[i] = uploadFile(t, s, "", []byte("Aspirin and aspirin"))
	}
	for _, a := range all {
		found := await(t, s, a.Prescription)
		if p := found["DuplicatesChecked"]; len(p.Found) != 1 || p.CorrelationID != a.CorrelationID {
			t.Errorf("found %+v", p)
		}
	}
	s.Stop()
	if strings.Contains(s.Log.String(), "level=ERROR") {
		t.Errorf("its log is\n%s", s.Log)
	}
}

func TestWhatIsNotAcceptedSaysWhy(t *testing.T) {
	s := program.Start(t)
	noFile, noFileBody := form(t, "other", "text/plain", []byte("x"))
	empty, emptyBody := form(t, "file", "text/plain", nil)
	half, halfBody := form(t, "file", "text/plain", bytes.Repeat([]byte("x"), 1000))
	for name, tt := range map[string]struct {
		kind   string
		body   io.Reader
		status int
		detail string
	}{
		"no form":       {"application/json", strings.NewReader("{}"), http.StatusUnsupportedMediaType, "multipart/form-data"},
		"no boundary":   {"multipart/form-data", strings.NewReader("x"), http.StatusBadRequest, "boundary"},
		"no file":       {noFile, noFileBody, http.StatusUnprocessableEntity, "file"},
		"an empty file": {empty, emptyBody, http.StatusUnprocessableEntity, "empty"},
		"half a file":   {half, io.LimitReader(halfBody, 200), http.StatusBadRequest, "ends early"},
	} {
		status, kind, answer := s.Do(http.MethodPost, "/upload_prescription/", tt.kind, tt.body)
		if status != tt.status || kind != "application/problem+json" || !strings.Contains(answer, tt.detail) {
			t.Errorf("%s is answered by %d %s %s, want %d and %q", name, status, kind, answer, tt.status, tt.detail)
		}
	}
	if got := s.Get("/projections/"); got != `{"projections":[]}` {
		t.Errorf("projections are %s", got)
	}
}
