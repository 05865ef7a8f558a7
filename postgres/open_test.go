package postgres_test

import (
	"context"
	"errors"
	"testing"

	"github.com/jackc/pgx/v5"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/postgres"
	"github.com/eventsourcing-go/eventsourcing/postgres/pgserver"
)

// wantError fails the test unless err is the one that is wanted.
func wantError(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: %v, want %v", what, err, want)
	}
}

// run runs a statement of a program's own.
func run(t *testing.T, url, statement string) {
	t.Helper()
	c, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Exec(t.Context(), statement); err != nil {
		t.Error(err)
	}
	if err := c.Close(context.Background()); err != nil {
		t.Error(err)
	}
}

func TestASchemaIsMadeOnceAndFoundAgain(t *testing.T) {
	t.Parallel()
	url := pgserver.Database(t)
	_, err := postgres.Open(t.Context(), postgres.Config{URL: url, Migration: postgres.Verify})
	wantError(t, "without a schema", err, postgres.ErrOutdated)
	for _, c := range []postgres.Config{{}, {}, {Namespace: "other"}, {Schema: "another"}, {Migration: postgres.Verify}} {
		c.URL = url
		db, err := postgres.Open(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestASchemaOfAnotherProgramIsNotTouched(t *testing.T) {
	t.Parallel()
	url := pgserver.Database(t)
	run(t, url, "CREATE SCHEMA eventsourcing; CREATE TABLE eventsourcing.mine (n integer)")
	_, err := postgres.Open(t.Context(), postgres.Config{URL: url})
	wantError(t, "open", err, postgres.ErrForeign)
}

func TestANewerSchemaIsRefused(t *testing.T) {
	t.Parallel()
	url := pgserver.Database(t)
	db, err := postgres.Open(t.Context(), postgres.Config{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Error(err)
	}
	run(t, url, "UPDATE eventsourcing.version SET version = 1000")
	_, err = postgres.Open(t.Context(), postgres.Config{URL: url})
	wantError(t, "open", err, postgres.ErrNewer)
}

func TestWhatIsWrongWithAConfigurationIsTold(t *testing.T) {
	t.Parallel()
	for _, c := range []postgres.Config{
		{}, {URL: "postgres:///x", Schema: "With Spaces"}, {URL: "postgres:///x", Lanes: -1}, {URL: "postgres:///x", Migration: 7},
		{URL: "postgres:///x", Namespace: "a\x00b"}, {URL: "postgres:///x", DedupeEntries: -1}, {URL: "postgres:///x", PollInterval: -1},
	} {
		_, err := postgres.Open(t.Context(), c)
		wantError(t, "open", err, es.ErrInvalid)
	}
	_, err := postgres.Open(t.Context(), postgres.Config{URL: "postgres://127.0.0.1:1/x?connect_timeout=1"})
	wantError(t, "nobody there", err, postgres.ErrUnavailable)
}
