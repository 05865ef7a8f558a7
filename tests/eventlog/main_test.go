package eventlog_test

import (
	"flag"
	"fmt"
	"os"
	"strconv"
	"testing"

	"go.uber.org/goleak"
)

// schedules is how many of them a test goes through, unless -rapid.checks says otherwise. What fails is shrunk, and printed with the
// flags that play it again.
const schedules = 3000

// fewer lets the test that calls it, which may not be parallel, go through a twentieth of the schedules: those of routers take as
// much longer.
func fewer(t *testing.T) {
	t.Helper()
	checks := flag.Lookup("rapid.checks").Value
	all := checks.String()
	n, err := strconv.Atoi(all)
	if err != nil {
		t.Fatal(err)
	}
	set := func(value string) {
		if err := checks.Set(value); err != nil {
			t.Fatal(err)
		}
	}
	set(strconv.Itoa(max(n/20, 1)))
	t.Cleanup(func() { set(all) })
}

// TestMain: no goroutine of a log outlives it.
func TestMain(m *testing.M) {
	flag.Parse()
	asked := false
	flag.Visit(func(f *flag.Flag) { asked = asked || f.Name == "rapid.checks" })
	if !asked {
		if err := flag.Set("rapid.checks", strconv.Itoa(schedules)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	goleak.VerifyTestMain(m)
}
