package workloads

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"time"

	"github.com/eventsourcing-go/eventsourcing/bench/internal/measure"
)

const howPgbench = "PostgreSQL's own program on as many connections and one thread, the same INSERT, prepared, into new streams"

// benchScript is the INSERT as pgbench sends it. It makes IDs in the server, as it cannot make any itself.
const benchScript = `\set number random(1, 1000000000000)
INSERT INTO eventsourcing.events_1 (position, version, id, stream, category, name, schema, time, recorded, correlation, causation,
		metadata, data)
	VALUES (nextval('eventsourcing.positions_1'), 1, gen_random_uuid(), 'order-' || :number || '-' || :client_id, 'order', 'OrderPlaced', 1,
		1, 1, '` + correlation + `', '` + correlation + `', '{"tenant":"tenant-0"}', convert_to(repeat('x', 256), 'UTF8'));
`

// benching is a database that pgbench writes to.
type benching struct {
	database

	program, script string
	clients, events int
}

func newBenching(ctx context.Context, d database, clients int, dir string, events int) (*benching, error) {
	b := &benching{
		database: d, clients: clients, events: events, program: filepath.Join(d.server.Version().Bin, "pgbench"),
		script: filepath.Join(dir, "insert.sql"),
	}
	if err := exec.CommandContext(ctx, b.program, "--version").Run(); err != nil { //nolint:gosec // beside the server that runs
		return nil, errors.Join(err, d.drop())
	}
	if err := os.WriteFile(b.script, []byte(benchScript), 0o600); err != nil {
		return nil, errors.Join(err, d.drop())
	}
	return b, nil
}

var connecting = regexp.MustCompile(`tps = ([0-9.]+) \(without initial connection time\)`)

// Run has each client insert its share of n events, rounded up. pgbench tells the rate without the time that it takes to connect.
func (b *benching) Run(ctx context.Context, n int) (measure.Result, error) {
	each := (n + b.clients - 1) / b.clients
	arguments := []string{
		"-n", "-M", "prepared", "-j", "1", "-c", strconv.Itoa(b.clients), "-t", strconv.Itoa(each), "-f", b.script, b.url(),
	}
	command := exec.CommandContext(ctx, b.program, arguments...) //nolint:gosec // as above
	out, err := command.CombinedOutput()
	if err != nil {
		return measure.Result{}, fmt.Errorf("pgbench: %w: %s", err, bytes.TrimSpace(out))
	}
	match := connecting.FindSubmatch(out)
	if match == nil {
		return measure.Result{}, fmt.Errorf("pgbench does not tell its rate: %s", bytes.TrimSpace(out))
	}
	rate, err := strconv.ParseFloat(string(match[1]), 64)
	if err != nil {
		return measure.Result{}, err
	}
	b.events += each * b.clients
	return measure.Result{Elapsed: time.Duration(float64(n) / rate * float64(time.Second))}, nil
}

// Close counts the events.
func (b *benching) Close() error {
	ctx := context.Background()
	conn, err := b.connect(ctx)
	if err != nil {
		return err
	}
	events := 0
	err = conn.QueryRow(ctx, "SELECT count(*) FROM eventsourcing.events_1").Scan(&events)
	if err == nil && events != b.events {
		err = fmt.Errorf("pgbench has left %d events where %d were inserted", events, b.events)
	}
	return errors.Join(err, conn.Close(ctx), b.drop())
}
