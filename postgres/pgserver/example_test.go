package pgserver_test

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/jackc/pgx/v5"

	"github.com/eventsourcing-go/eventsourcing/postgres/pgserver"
)

func Example() {
	run := func(ctx context.Context) (err error) {
		server, err := pgserver.Start(ctx, pgserver.Config{NoSync: true, Settings: map[string]string{"max_connections": "20"}})
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, server.Stop(ctx)) }()

		conn, err := pgx.Connect(ctx, server.URL("postgres"))
		if err != nil {
			return err
		}
		defer conn.Close(ctx)
		var connections string
		if err := conn.QueryRow(ctx, "SHOW max_connections").Scan(&connections); err != nil {
			return err
		}
		fmt.Println("room for", connections)
		return nil
	}
	if err := run(context.Background()); err != nil {
		fmt.Println(err)
	}
	// Output: room for 20
}

// What was committed is there after the server was killed and started again, under the same URL. The folder keeps it between
// runs of the program, too.
func ExampleServer_Kill() {
	run := func(ctx context.Context) (err error) {
		folder, err := os.MkdirTemp("/tmp", "example-")
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
		if err := os.Chmod(folder, 0o755); err != nil { // for the account that the server runs as, when this is root
			return err
		}
		server, err := pgserver.Start(ctx, pgserver.Config{Dir: folder + "/items.pg", Install: true})
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, server.Stop(ctx)) }()

		conn, err := pgx.Connect(ctx, server.URL("postgres"))
		if err != nil {
			return err
		}
		_, err = conn.Exec(ctx, "CREATE TABLE items AS SELECT 'tea' AS name")
		if err := errors.Join(err, server.Kill(), server.Restart(ctx)); err != nil {
			return err
		}
		fmt.Println("broken:", conn.Ping(ctx) != nil)

		if conn, err = pgx.Connect(ctx, server.URL("postgres")); err != nil {
			return err
		}
		defer conn.Close(ctx)
		var name string
		if err := conn.QueryRow(ctx, "SELECT name FROM items").Scan(&name); err != nil {
			return err
		}
		fmt.Println("there:", name)
		return nil
	}
	if err := run(context.Background()); err != nil {
		fmt.Println(err)
	}
	// Output:
	// broken: true
	// there: tea
}
