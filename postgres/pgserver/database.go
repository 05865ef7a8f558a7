package pgserver

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/jackc/pgx/v5"
)

// CreateDatabase makes an empty database, and returns its name. It takes tens of milliseconds.
func (s *Server) CreateDatabase(ctx context.Context) (string, error) {
	return createDatabase(ctx, s.URL(superuser), "template0")
}

// CopyDatabase makes a database that is a copy of another, and returns its name. Nobody may be connected to the other. For tests that
// all begin with the same tables, it is faster than making those anew.
func (s *Server) CopyDatabase(ctx context.Context, database string) (string, error) {
	return createDatabase(ctx, s.URL(superuser), database)
}

// DropDatabase removes a database; connections to it break. That it is not there is not an error.
func (s *Server) DropDatabase(ctx context.Context, database string) error {
	return dropDatabase(ctx, s.URL(superuser), database)
}

// createDatabase connects anew each time: a connection that is kept would count as one of the server's, and leak.
func createDatabase(ctx context.Context, admin, template string) (string, error) {
	name := "pgserver_" + strings.ToLower(rand.Text())
	err := execute(ctx, admin, "CREATE DATABASE "+quoted(name)+" TEMPLATE "+quoted(template))
	if err != nil {
		return "", fmt.Errorf("pgserver: create a database: %w", err)
	}
	return name, nil
}

func dropDatabase(ctx context.Context, admin, name string) error {
	if err := execute(ctx, admin, "DROP DATABASE IF EXISTS "+quoted(name)+" WITH (FORCE)"); err != nil {
		return fmt.Errorf("pgserver: drop a database: %w", err)
	}
	return nil
}

func quoted(name string) string { return pgx.Identifier{name}.Sanitize() }

func execute(ctx context.Context, where, statement string) error {
	conn, err := pgx.Connect(ctx, where)
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, statement)
	return errors.Join(err, conn.Close(ctx))
}

// otherDatabase is a connection string with another database in it.
func otherDatabase(connection, database string) (string, error) {
	if !strings.HasPrefix(connection, "postgres://") && !strings.HasPrefix(connection, "postgresql://") {
		return connection + " dbname=" + database, nil // of two, the last counts
	}
	u, err := url.Parse(connection)
	if err != nil {
		return "", errors.New("is not a URL that can be read") // the error of the parser would show the password
	}
	u.Path = "/" + database
	query := u.Query()
	query.Del("dbname")
	query.Del("database")
	u.RawQuery = query.Encode()
	return u.String(), nil
}
