package router_test

import (
	"time"

	"pgregory.net/rapid"
)

// act is what a handler does with a message, once.
type act int

const (
	succeed act = iota
	skip
	fail
	retry
	busy
	dead
	panics
	goexit
	slow     // and succeeds; it does not care about its context
	obedient // slow, and ends with its context
	outputs  // returns two messages
	acts
)

// control is what somebody does with a router while it runs.
type control int

const (
	pause control = iota
	resume
	stopRoute
	startRoute
	stall // the broker cannot be reached for longer than a lease
	controls
)

// plan is a simulation: what happens, all of it drawn beforehand. Rapid prints the one that fails, as small as it could make it,
// with the seed; go test -rapid.seed=N, or -rapid.failfile=F, runs it again.
type plan struct {
	Routers, Workers, Batch, MaxAttempts int
	Dedupe, Retry, OwnKey                bool
	FailPercent                          int // of the calls to the broker and of what is sent
	Seed                                 uint64
	Grace                                time.Duration
	Keys                                 []int   // of each message
	Acts                                 [][]act // of each message, one after the other; then it succeeds
	Replays                              []int   // of each message: how often it is replayed when it is a dead letter
	Runs                                 []run
}

// run is a time at the end of which a router is stopped, and another takes its place.
type run struct {
	Steps  []step
	After  time.Duration
	Router int
	HangUp bool // the broker does it, and ends all routers that are subscribed
}

// step is one thing that is done to a router.
type step struct {
	After  time.Duration
	Router int
	What   control
}

func drawPlan(t *rapid.T) plan {
	n := rapid.IntRange(1, 40).Draw(t, "messages")
	p := plan{
		Routers:     rapid.SampledFrom([]int{1, 1, 2, 3}).Draw(t, "routers"),
		Workers:     rapid.IntRange(1, 5).Draw(t, "workers"),
		Batch:       rapid.IntRange(1, 12).Draw(t, "batch"),
		MaxAttempts: rapid.IntRange(1, 4).Draw(t, "attempts"),
		Dedupe:      rapid.Bool().Draw(t, "dedupe"),
		Retry:       rapid.Bool().Draw(t, "retry"),
		OwnKey:      rapid.Bool().Draw(t, "own key"),
		FailPercent: rapid.SampledFrom([]int{0, 0, 5, 20}).Draw(t, "fail percent"),
		Seed:        rapid.Uint64().Draw(t, "seed"),
		Grace:       time.Duration(rapid.IntRange(0, 5).Draw(t, "grace")) * time.Second,
		Keys:        rapid.SliceOfN(rapid.IntRange(0, 5), n, n).Draw(t, "keys"),
		Replays:     rapid.SliceOfN(rapid.IntRange(0, 2), n, n).Draw(t, "replays"),
	}
	one := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) act { return act(rapid.IntRange(0, int(acts)-1).Draw(t, "act")) }), 0, 4)
	p.Acts = rapid.SliceOfN(one, n, n).Draw(t, "acts")
	last := stall
	if rapid.IntRange(0, 3).Draw(t, "stalls") == 0 {
		last = controls
	}
	p.Runs = rapid.SliceOfN(rapid.Custom(func(t *rapid.T) run { return drawRun(t, p.Routers, last) }), 0, 4).Draw(t, "runs")
	return p
}

func drawRun(t *rapid.T, routers int, last control) run {
	// Half a step off everything else, so that nothing that is done coincides with the end of a handler.
	after := func(most int) time.Duration {
		return time.Duration(rapid.IntRange(0, most).Draw(t, "after"))*100*time.Millisecond + 2500317*time.Nanosecond
	}
	which := func() int { return rapid.IntRange(0, routers-1).Draw(t, "router") }
	return run{
		Steps: rapid.SliceOfN(rapid.Custom(func(t *rapid.T) step {
			return step{After: after(60), Router: which(), What: control(rapid.IntRange(0, int(last)-1).Draw(t, "control"))}
		}), 0, 4).Draw(t, "steps"),
		After:  after(300),
		Router: which(),
		HangUp: rapid.IntRange(0, 4).Draw(t, "hang up") == 0,
	}
}
