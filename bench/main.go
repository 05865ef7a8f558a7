// Command bench compares this toolkit with a peer and with bare loops, on the same work.
//
// The contenders of a workload take turns, round by round; every message is numbered, and each contender is checked for having
// handled each once, in order, and acknowledged it. What counts is a ratio within one run.
//
//	go run ./bench                          # the table of everything
//	go run ./bench -only router,publish-10  # some of it
//	go run ./bench -out docs/benchmarks     # write the table, charts and figures there as well
//	go run ./bench -quick                   # are the floors kept?
//	go run ./bench -profile router-chain    # where does our time go?
//	go run ./bench -files /mnt/disk         # the disk that workloads on files are measured on
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"time"

	"github.com/eventsourcing-go/eventsourcing/bench/internal/measure"
	"github.com/eventsourcing-go/eventsourcing/bench/internal/profile"
	"github.com/eventsourcing-go/eventsourcing/bench/internal/report"
	"github.com/eventsourcing-go/eventsourcing/bench/internal/workloads"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	switch {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

type options struct {
	only, out, profile, profiles, files string

	quick, list, long bool

	rounds         int
	million        int
	round, lasting time.Duration
	margin         float64
}

// run is the whole command. The error says what went wrong, or which floors were not kept.
func run(ctx context.Context, args []string, out, messages io.Writer) error {
	o, err := parse(args, messages)
	if err != nil {
		return err
	}
	selected, err := workloads.Find(o.only)
	if err != nil {
		return err
	}
	if o.list {
		return list(out, selected)
	}
	if o.only == "" && !o.long {
		selected = slices.DeleteFunc(selected, func(w measure.Workload) bool { return w.Long })
	}
	return measure.WithStage(ctx, o.files, o.million, func(s measure.Stage) error {
		switch {
		case o.profile != "":
			return profileOne(ctx, o, s, out)
		case o.quick:
			return quick(ctx, selected, o, s, out)
		}
		return compare(ctx, selected, o, s, out)
	})
}

func parse(args []string, messages io.Writer) (options, error) {
	var o options
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(messages)
	flags.StringVar(&o.only, "only", "", "measure only these `workloads`, separated by commas")
	flags.BoolVar(&o.list, "list", false, "list the workloads with their contenders and floors, and measure nothing")
	flags.IntVar(&o.rounds, "rounds", 0, "how often each contender has its turn; 7, and 3 with -quick")
	flags.DurationVar(&o.round, "round", 0, "how long a turn is, about; 500ms, and 100ms with -quick")
	flags.StringVar(&o.out, "out", "", "write README.md, results.json and the charts to this `directory`")
	flags.BoolVar(&o.quick, "quick", false, "measure only what the floors need, and fail when one is not kept")
	flags.Float64Var(&o.margin, "margin", 0.65, "with -quick: what is left of a floor when noise is taken off")
	flags.StringVar(&o.profile, "profile", "", "run our side of this `workload` and write profiles of it")
	flags.StringVar(&o.profiles, "profiles", "bench/profiles", "the `directory` for profiles, one in it for each workload")
	flags.StringVar(&o.files, "files", "", "the `directory` on the disk to measure; the system's for temporary files, which may be in memory")
	flags.IntVar(&o.million, "million", 0, "how many events stand for a million that are stored; 1000000, and 100000 with -quick")
	flags.BoolVar(&o.long, "long", false, "measure what takes minutes as well: ten million stored events")
	flags.DurationVar(&o.lasting, "for", 10*time.Second, "with -profile: how long")
	flags.Usage = func() {
		fmt.Fprint(messages, usage)
		flags.PrintDefaults()
	}
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	switch {
	case flags.NArg() > 0:
		return o, fmt.Errorf("%q is no flag; -h lists them", flags.Arg(0))
	case o.out != "" && (o.only != "" || o.quick):
		return o, errors.New("-out writes the report of everything; it does not go with -only or -quick")
	case o.margin <= 0:
		return o, fmt.Errorf("-margin is %g; it has to be more than 0", o.margin)
	case o.rounds < 0 || o.round < 0 || o.million < 0:
		return o, errors.New("-rounds, -round and -million cannot be negative")
	}
	if o.million == 0 {
		o.million = 1_000_000
		if o.quick {
			o.million /= 10
		}
	}
	return o, nil
}

const usage = `bench compares this toolkit with a peer and with bare loops, on the same work.

  go run ./bench                          the table of everything; takes ten minutes
  go run ./bench -only router,publish-10  some of it; -list has the names
  go run ./bench -out docs/benchmarks     the table, charts and figures as files
  go run ./bench -quick                   exits with 1 when a floor is not kept
  go run ./bench -profile router-chain    CPU, allocation, mutex and block profiles of our side

Contenders take turns. Ratios are of one round, and the median of the rounds counts; the other figures
are medians too. Run it on a quiet machine, and compare ratios, not nanoseconds.

`

// plan completes what the flags left open.
func (o options) plan(s measure.Stage, rounds int, round time.Duration) measure.Plan {
	if o.rounds > 0 {
		rounds = o.rounds
	}
	if o.round > 0 {
		round = o.round
	}
	return measure.Plan{Rounds: rounds, Round: round, FloorsOnly: o.quick, Stage: s}
}

func list(out io.Writer, selected []measure.Workload) error {
	for _, w := range selected {
		if _, err := fmt.Fprintf(out, "%s: %s\n  %s\n", w.Name, w.Title, w.About); err != nil {
			return err
		}
		for _, c := range w.Contenders {
			fmt.Fprintf(out, "    %s: %s\n", c.Name, c.How)
		}
		for _, f := range w.Floors {
			fmt.Fprintf(out, "    floor: %.3g times %s: %s\n", f.Ratio, f.Against, f.Why)
		}
	}
	return nil
}

// compare prints the table of the workloads, and writes the report where it was asked for.
func compare(ctx context.Context, selected []measure.Workload, o options, s measure.Stage, out io.Writer) error {
	plan := o.plan(s, 7, 500*time.Millisecond)
	r, err := report.New(plan) //nolint:contextcheck // it looks into folders only
	if err != nil {
		return err
	}
	if err := r.WriteHeader(out); err != nil {
		return err
	}
	for _, w := range selected {
		m, err := measure.Measure(ctx, w, plan)
		if err != nil {
			return err
		}
		if err := r.Add(out, m); err != nil {
			return err
		}
	}
	if o.out == "" {
		return nil
	}
	return r.WriteFiles(o.out)
}

// quick fails when a floor is not kept. A line that fails gets a second chance, with more and longer rounds, because a noisy
// neighbor is more frequent than a regression.
func quick(ctx context.Context, selected []measure.Workload, o options, s measure.Stage, out io.Writer) error {
	first := o.plan(s, 3, 100*time.Millisecond)
	second := first
	second.Rounds, second.Round = 2*first.Rounds+1, 2*first.Round
	var failures []measure.Failure
	for _, w := range selected {
		m, err := measure.Measure(ctx, w, first)
		if err == nil && len(m.Failures(o.margin)) > 0 {
			m, err = measure.Measure(ctx, w, second)
		}
		if err != nil {
			return err
		}
		failures = append(failures, m.Failures(o.margin)...)
		if err := report.WriteFloors(out, m); err != nil {
			return err
		}
	}
	if len(failures) == 0 {
		return nil
	}
	for _, f := range failures {
		fmt.Fprintln(out, "FAILED", f)
	}
	return fmt.Errorf("floors that are not kept: %d; docs/how-to/measure.md says what to do", len(failures))
}

func profileOne(ctx context.Context, o options, s measure.Stage, out io.Writer) error {
	found, err := workloads.Find(o.profile)
	if err != nil {
		return err
	}
	if len(found) != 1 {
		return errors.New("-profile takes one workload")
	}
	return profile.Write(ctx, found[0], s, o.lasting, o.profiles, out)
}
