package main_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/eventsourcing-go/eventsourcing/examples/internal/servicetest"
)

var program servicetest.Program

func TestMain(m *testing.M) { os.Exit(servicetest.Run(m, &program)) }

// service is the program as it runs.
type service struct{ *servicetest.Service }

func start(t *testing.T, args ...string) service {
	t.Helper()
	return service{program.Start(t, args...)}
}

// do makes a request and returns status, content type and body of the answer.
func (s service) do(method, path, contentType, body string) (status int, kind, answer string) {
	s.Helper()
	return s.Do(method, path, contentType, strings.NewReader(body))
}

// post sends an item, which must be accepted.
func (s service) post(query, body string) {
	s.Helper()
	status, kind, answer := s.do(http.MethodPost, "/items/?"+query, "application/json", body)
	if status != http.StatusOK || kind != "application/json" || strings.TrimSpace(answer) != `{"accepted":true}` {
		s.Fatalf("POST %s: %d %s %q", query, status, kind, answer)
	}
}

func (s service) awaitItems(want string) {
	s.Helper()
	s.Await("/items/", func(answer string) bool { return answer == want })
}

func TestItemsAreListedInTheOrderInWhichTheyWereStored(t *testing.T) {
	s := start(t)
	if got := s.Get("/items/"); got != `{"items":[]}` {
		t.Errorf("without items: %s", got)
	}
	payloads := []string{`{"b":1,"a":"<&>\u00e9é"}`, `[1,2.50,1e3]`, `"text"`, `null`, `12345678901234567890.10`, `{}`}
	for _, payload := range payloads {
		s.post("name=ItemAdded", payload)
	}
	want := strings.Join(payloads, ",")
	s.awaitItems(`{"items":[` + want + `]}`)
	s.post("name=ItemAdded", " {\n \"spaced\" : [ 1 ,2 ] }\n")
	s.awaitItems(`{"items":[` + want + `,{"spaced":[1,2]}]}`)
}

func TestALongListIsWhole(t *testing.T) {
	s := start(t)
	const n = 2500 // more than two pages of the read model
	var all []string
	for i := range n {
		all = append(all, strconv.Itoa(i))
		s.post("name=ItemAdded", strconv.Itoa(i))
	}
	s.awaitItems(`{"items":[` + strings.Join(all, ",") + `]}`)
}

func TestOtherStreamsAreNotListed(t *testing.T) {
	s := start(t)
	for range 1500 { // more than a topic that nobody subscribes to keeps
		s.post("name=Other&stream=other.events", `"other"`)
	}
	s.post("name=ItemAdded&stream=items.events-7", `"of its category"`)
	s.awaitItems(`{"items":["of its category"]}`)
	s.post("name=ItemAdded&stream=", `"item"`)
	s.awaitItems(`{"items":["of its category","item"]}`)
}

func TestWhatIsNotAcceptedSaysWhy(t *testing.T) {
	s := start(t)
	for _, c := range []struct {
		method, path, kind, body string
		status                   int
		detail                   string
	}{
		{"POST", "/items/", "application/json", `{}`, 422, "name"},
		{"POST", "/items/?name=", "application/json", `{}`, 422, "name"},
		{"POST", "/items/?name=" + strings.Repeat("n", 256), "application/json", `{}`, 422, "255"},
		{"POST", "/items/?name=X&stream=a%00b", "application/json", `{}`, 422, "stream"},
		{"POST", "/items/?name=X&stream=" + strings.Repeat("s", 256), "application/json", `{}`, 422, "255"},
		{"POST", "/items/?name=X&stream=%ff", "application/json", `{}`, 422, "UTF-8"},
		{"POST", "/items/?name=X&stream=dead", "application/json", `{}`, 422, "dead letters"},
		{"POST", "/items/?name=X", "application/json", `{"a":`, 400, "JSON"},
		{"POST", "/items/?name=X", "application/json", `{} {}`, 400, "after top-level value"},
		{"POST", "/items/?name=X", "application/json", ``, 400, "empty"},
		{"POST", "/items/?name=X", "application/json", strings.Repeat("[", 1000) + strings.Repeat("]", 1000), 400, "nested"},
		{"POST", "/items/?name=X", "text/plain", `{}`, 415, "application/json"},
		{"POST", "/items/?name=X", "", `{}`, 415, "application/json"},
		{"POST", "/items/?name=X", "application/json", `"` + strings.Repeat("x", 1<<20) + `"`, 413, "1048576 bytes"},
		{"DELETE", "/items/", "", ``, 405, "GET"},
		{"GET", "/nowhere", "", ``, 404, "path"},
		{"GET", "/items/7", "", ``, 404, "path"},
	} {
		status, kind, answer := s.do(c.method, c.path, c.kind, c.body)
		var problem struct {
			Status int    `json:"status"`
			Detail string `json:"detail"`
		}
		err := json.Unmarshal([]byte(answer), &problem)
		name := fmt.Sprintf("%s %.60s %s %.20s", c.method, c.path, c.kind, c.body)
		if status != c.status || kind != "application/problem+json" || err != nil || problem.Status != c.status {
			t.Errorf("%s: %d %s %s, want a problem of status %d", name, status, kind, answer, c.status)
			continue
		}
		if !strings.Contains(problem.Detail, c.detail) {
			t.Errorf("%s: %q, want %q in it", name, problem.Detail, c.detail)
		}
	}
	if got := s.Get("/items/"); got != `{"items":[]}` {
		t.Errorf("something was taken all the same: %s", got)
	}
}

func TestAHandlerThatFailsTheFirstTime(t *testing.T) {
	s := start(t, "-fail-first")
	for i := range 3 {
		s.post("name=ItemAdded", strconv.Itoa(i))
	}
	s.awaitItems(`{"items":[0,1,2]}`)
	if n := strings.Count(s.Log.String(), "failed the first time"); n < 3 {
		t.Errorf("the handler failed %d times, want 3", n)
	}
	if got := s.Get("/dead/"); got != `{"letters":[]}` {
		t.Errorf("dead letters: %s", got)
	}
	metrics := "" // an item is listed a moment before its handler has returned
	for deadline := time.Now().Add(servicetest.Patience); !strings.Contains(metrics, `outcome="done"} 3`); {
		if time.Now().After(deadline) {
			t.Fatalf("metrics are %s", metrics)
		}
		_, _, metrics = s.do(http.MethodGet, "/metrics", "", "")
	}
	s.Stop()
}

func TestWhatFailsForGoodIsADeadLetter(t *testing.T) {
	s := start(t, "-refuse", "Bad")
	s.post("name=Bad", `{"bad":true}`)
	s.post("name=Good", `"good"`)
	s.awaitItems(`{"items":["good"]}`)
	var list struct {
		Letters []struct {
			ID       string    `json:"id"`
			Name     string    `json:"name"`
			Stream   string    `json:"stream"`
			Handler  string    `json:"handler"`
			Error    string    `json:"error"`
			Attempts int       `json:"attempts"`
			Time     time.Time `json:"time"`
		} `json:"letters"`
	}
	for deadline := time.Now().Add(servicetest.Patience); len(list.Letters) == 0 && time.Now().Before(deadline); {
		if err := json.Unmarshal([]byte(s.Get("/dead/")), &list); err != nil {
			t.Fatal(err)
		}
	}
	if len(list.Letters) != 1 {
		t.Fatalf("dead letters are %+v", list)
	}
	if d := list.Letters[0]; d.Name != "Bad" || d.Stream != "items.events" || d.Handler != "items" || d.Attempts != 1 || d.Time.IsZero() ||
		!strings.Contains(d.Error, "refused") {
		t.Errorf("dead letter is %+v", d)
	}
	status, _, answer := s.do(http.MethodPost, "/dead/"+list.Letters[0].ID+"/replay", "", "")
	if status != http.StatusNoContent {
		t.Errorf("a replay is answered by %d %s", status, answer)
	}
	s.Await("/dead/", func(answer string) bool { // it is refused again, and has another letter
		return strings.Contains(answer, "refused") && !strings.Contains(answer, list.Letters[0].ID)
	})
	if got := s.Get("/items/"); got != `{"items":["good"]}` {
		t.Errorf("items are %s", got)
	}
}

func TestAnItemIsListedAtOnce(t *testing.T) {
	s := start(t)
	const n = 50
	took := make([]time.Duration, n)
	var all []string
	for i := range n {
		all = append(all, strconv.Itoa(i))
		begin := time.Now()
		s.post("name=ItemAdded", strconv.Itoa(i))
		s.awaitItems(`{"items":[` + strings.Join(all, ",") + `]}`)
		took[i] = time.Since(begin)
	}
	slices.Sort(took)
	t.Logf("from POST to GET, both included: median %v, longest %v", took[n/2], took[n-1])
	const aim, busyMachine = 5 * time.Millisecond, 100 // a second would be that somebody polls
	if took[n/2] > aim*busyMachine {
		t.Errorf("the median is %v; %v is the aim", took[n/2], aim)
	}
}

func TestHealth(t *testing.T) {
	s := start(t)
	for _, path := range []string{"/livez", "/readyz"} {
		s.Get(path)
	}
}

func TestSIGTERMEndsItInOrderAndNothingIsLost(t *testing.T) {
	s := start(t)
	s.post("name=ItemAdded", `1`)
	s.awaitItems(`{"items":[1]}`)
	s.Stop()
	if _, err := http.Get(s.URL + "/items/"); err == nil { //nolint:bodyclose // it must not answer
		t.Error("it still answers")
	}
	if !strings.Contains(s.Log.String(), "stopped") {
		t.Errorf("its log does not end with its end: %s", s.Log)
	}
}

func TestEnvironment(t *testing.T) {
	for _, c := range []struct {
		args     []string
		variable string
		want     string
	}{
		{[]string{"-store", "items.db"}, "", "sqlite:items.db"},
		{nil, "ES_POLL_INTERVAL=soon", "ES_POLL_INTERVAL"},
		{[]string{"-addr", "nowhere:-1"}, "", "nowhere:-1"},
	} {
		command := exec.CommandContext(t.Context(), program.Binary, append([]string{"-addr", "127.0.0.1:0"}, c.args...)...)
		command.Dir = t.TempDir()
		command.Env = append(os.Environ(), c.variable)
		out, err := command.CombinedOutput()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != 1 || !strings.Contains(string(out), c.want) {
			t.Errorf("%v %s: %v, want exit code 1 and %q in\n%s", c.args, c.variable, err, c.want, out)
		}
	}
	t.Setenv("ES_LOG_JSON", "true")
	t.Setenv("ES_DEAD_STREAM", "graveyard")
	t.Setenv("ES_METRICS", "false")
	command := exec.CommandContext(t.Context(), program.Binary, "-addr", "127.0.0.1:0")
	command.Dir = t.TempDir()
	stderr, err := command.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	var entry struct {
		Msg  string `json:"msg"`
		Addr string `json:"addr"`
	}
	if err := json.NewDecoder(stderr).Decode(&entry); err != nil || entry.Msg != "listening" {
		t.Errorf("the log begins with %+v (%v), want JSON that says listening", entry, err)
	}
	s := service{&servicetest.Service{T: t, URL: "http://" + entry.Addr, Command: command, Log: &servicetest.Log{}}}
	if status, _, answer := s.do(http.MethodPost, "/items/?name=X&stream=graveyard", "application/json", `{}`); status != 422 {
		t.Errorf("an item for the dead stream: %d %s", status, answer)
	}
	s.post("name=X", `1`)
	s.awaitItems(`{"items":[1]}`)
	if _, _, metrics := s.do(http.MethodGet, "/metrics", "", ""); strings.Contains(metrics, "es_messages_total{") {
		t.Errorf("metrics are switched off: %s", metrics)
	}
	go func() { _, _ = io.Copy(io.Discard, stderr) }()
	s.Stop()
}
