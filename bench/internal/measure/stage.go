package measure

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/eventsourcing-go/eventsourcing/postgres/pgserver"
)

// Stage is where contenders set up what they keep over their rounds.
type Stage struct {
	// Dir is a directory for files, on the disk that is measured. The contenders of a run share it, and it is removed after the run.
	Dir string
	// Million is how many messages stand for a million that are stored: as many, or less where time is short.
	Million int
	// Postgres returns a server of the run's own with PostgreSQL's default durability, which it starts when it is asked for first.
	Postgres func() (*pgserver.Server, error)
}

// Stored returns how many messages to store where the workload speaks of so many.
func (s Stage) Stored(messages int) int {
	const million = 1_000_000
	return messages * s.Million / million
}

// Setup is what a contender keeps over the rounds of a measurement, such as a file that is open.
type Setup interface {
	// Run is a round; see [Contender].
	Run(ctx context.Context, n int) (Result, error)
	// Close checks what only the end shows, and takes the setup down.
	Close() error
}

// Set makes contenders ready to run: those that keep something over their rounds are set up. The function that is returned takes all
// of it down.
func Set(ctx context.Context, contenders []Contender, s Stage) (ready []Contender, takeDown func() error, err error) {
	var setups []Setup
	takeDown = func() error {
		var errs []error
		for _, setup := range setups {
			errs = append(errs, setup.Close())
		}
		return errors.Join(errs...)
	}
	for _, c := range contenders {
		if c.Open != nil {
			setup, err := c.Open(ctx, s)
			if err != nil {
				return nil, nil, errors.Join(fmt.Errorf("%s: set up: %w", c.Name, err), takeDown())
			}
			setups = append(setups, setup)
			c.Run = setup.Run
		}
		ready = append(ready, c)
	}
	return ready, takeDown, nil
}

// WithStage makes a stage below dir, of the temporary directory when it is empty, and removes it when do is done.
func WithStage(ctx context.Context, dir string, million int, do func(Stage) error) (err error) {
	made, err := os.MkdirTemp(dir, "bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(made)) }()
	var server *pgserver.Server
	defer func() {
		if server != nil {
			err = errors.Join(err, server.Stop(context.WithoutCancel(ctx)))
		}
	}()
	start := sync.OnceValues(func() (*pgserver.Server, error) {
		s, err := pgserver.Start(ctx, pgserver.Config{Install: true, Settings: map[string]string{"max_connections": "1000"}})
		server = s
		return s, err
	})
	return do(Stage{Dir: made, Million: million, Postgres: start})
}
