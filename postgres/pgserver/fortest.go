package pgserver

import (
	"context"
	"maps"
	"os"
	"sync"
	"time"
)

// TB is what this package takes of a test: a *testing.T, *testing.B or *testing.F. It is not [testing.TB], so that a program that runs
// a server has no testing in it.
type TB interface {
	Helper()
	Cleanup(f func())
	Context() context.Context
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
}

// testTime is how long a test waits for the server. An installation may be in it.
const testTime = 5 * time.Minute

// Database makes an empty database for a test, and returns its URL. It is dropped when the test has ended.
//
// All databases of a process are on one server, which is started when the first of them is asked for, with [Config].NoSync and
// [Config].Install, and ends with the process. When ES_TEST_POSTGRES_URL is set, they are on the server that it names, as a URL or as
// keywords and values; its user must be allowed to create databases, and those of a test that was killed, whose names begin with
// pgserver_, stay there.
func Database(t TB) string {
	t.Helper()
	admin := os.Getenv("ES_TEST_POSTGRES_URL")
	if admin == "" {
		s, err := shared()
		if err != nil {
			t.Fatalf("%v", err)
		}
		admin = s.URL(superuser)
	}
	name, err := createDatabase(t.Context(), admin, "template0")
	if err != nil {
		t.Fatalf("%v", err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), testTime)
		defer cancel()
		if err := dropDatabase(ctx, admin, name); err != nil {
			t.Errorf("%v", err)
		}
	})
	where, err := otherDatabase(admin, name)
	if err != nil {
		t.Fatalf("pgserver: ES_TEST_POSTGRES_URL %v", err)
	}
	return where
}

// shared is the server of the process. Nothing stops it but the end of the process: who is last cannot be known.
//
//nolint:gochecknoglobals // one server for a process is the point of it
var shared = sync.OnceValues(func() (*Server, error) {
	ctx, cancel := context.WithTimeout(context.Background(), testTime)
	defer cancel()
	return Start(ctx, forTest(Config{NoSync: true}))
})

// forTest is a configuration that leaves room for tests that run at the same time.
func forTest(c Config) Config {
	c.Install = true
	settings := map[string]string{"max_connections": "500", "max_prepared_transactions": "100"}
	maps.Copy(settings, c.Settings)
	c.Settings = settings
	return c
}

// ForTest starts a server for one test, which may do to it what it likes. It is stopped when the test has ended. PostgreSQL is
// installed if need be, as if [Config].Install were set, and there is room for 500 connections and 100 prepared transactions unless
// [Config].Settings say otherwise.
func ForTest(t TB, c Config) *Server {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), testTime)
	defer cancel()
	s, err := Start(ctx, forTest(c))
	if err != nil {
		t.Fatalf("%v", err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), testTime)
		defer cancel()
		if err := s.Stop(ctx); err != nil {
			t.Errorf("%v", err)
		}
	})
	return s
}
