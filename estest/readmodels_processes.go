package estest

import (
	"errors"
	"fmt"
	"io"
	"math"

	es "github.com/eventsourcing-go/eventsourcing"
)

func modelProcessLines() []Line[Harness[es.ReadModels]] {
	return []Line[Harness[es.ReadModels]]{
		modelLine("J2/processes_apply_each_event_once", modelProcesses),
	}
}

// modelCounters is how many counters a projection keeps: the event at a position adds one to the counter of its remainder, and
// its position to the sum.
const modelCounters = 3

func counterOf(position int64) string { return fmt.Sprint("counter-", position%modelCounters) }

// projectNumbers is a job: it applies the events of a log that is as long as it is told, each in a commit of its own, and
// tells the position of each that was acknowledged; 0 when it has come to the end. It knows nothing of its other copies.
func projectNumbers(w *worker) error {
	for {
		var end int64
		if err := w.order(&end); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		for {
			position, err := projectNext(w, end)
			if err != nil {
				return fmt.Errorf("apply the event after %d: %w", position, err)
			}
			if position >= end {
				break
			}
		}
		if err := w.tell(0); err != nil {
			return err
		}
	}
}

// projectNext applies the next event, unless another copy was faster, and returns how far the projection was before.
func projectNext(w *worker, end int64) (int64, error) {
	models := w.backend.ReadModels()
	progress, err := models.Progress(w.ctx, "p")
	if err != nil || progress.Position >= end {
		return progress.Position, err
	}
	next := progress
	next.Position++
	key := counterOf(next.Position)
	count, _, err := number(w.ctx, models, "m", key)
	if err != nil {
		return progress.Position, err
	}
	sum, _, err := number(w.ctx, models, "m", "sum")
	if err != nil {
		return progress.Position, err
	}
	err = models.Commit(w.ctx, advance("p", progress, next, numbered("m", key, count+1), numbered("m", "sum", sum+int(next.Position))))
	if errors.Is(err, es.ErrConflict) {
		return progress.Position, nil
	}
	if err == nil {
		err = w.tell(next.Position)
	}
	return progress.Position, err
}

// modelProcesses has copies of a projection in several processes apply the same events. One of them is killed at some moment, and
// another takes its place. Only the comparison of the checkpoint keeps an event from having its effect twice.
func modelProcesses(b *modelBench) {
	const stride = 60
	children := b.children(3, job{Kind: jobProject})
	applied := map[int64]int{} // position → how often its effect was acknowledged
	hear := func(c *child, until func(position int64) bool) {
		b.Helper()
		for {
			position := int64(0)
			b.ok(c.hear(b.ctx, &position), "a process that projects")
			if position > 0 {
				applied[position]++
			}
			if until(position) {
				return
			}
		}
	}
	atEnd := func(position int64) bool { return position == 0 }

	// One goes on for ever, at first beside another one, then alone.
	b.ok(children[0].order(math.MaxInt64), "begin")
	b.ok(children[1].order(stride), "begin")
	hear(children[1], atEnd)
	hear(children[0], func(position int64) bool { return position > stride+7 })
	for _, r := range children[0].kill() {
		position := int64(0)
		b.ok(r.read(&position), "what a process told before it was killed")
		applied[position]++
	}
	// What it had under way may be done, or not, or be done later; whoever goes on from there finds out.
	progress, err := b.role.Progress(b.ctx, "p")
	b.ok(err, "progress")
	end := progress.Position + stride
	b.ok(children[1].order(end), "go on")
	b.ok(children[2].order(end), "begin in place of the one that was killed")
	hear(children[1], atEnd)
	hear(children[2], atEnd)

	missing := 0
	for position := int64(1); position <= end; position++ {
		switch n := applied[position]; n {
		case 1:
		case 0:
			missing++
		default:
			b.Fatalf("event %d had its effect acknowledged %d times", position, n)
		}
	}
	if missing > 1 {
		b.Fatalf("the effects of %d events were never acknowledged; one was cut off", missing)
	}
	b.stands("p", at(0, 0, end))
	sum, _, err := number(b.ctx, b.role, "m", "sum")
	b.ok(err, "load")
	if want := int(end * (end + 1) / 2); sum != want {
		b.Fatalf("the sum of the events from 1 to %d is %d, want %d", end, sum, want)
	}
	counted := int64(0)
	for remainder := range int64(modelCounters) {
		n, _, err := number(b.ctx, b.role, "m", counterOf(remainder))
		b.ok(err, "load")
		counted += int64(n)
	}
	if counted != end {
		b.Fatalf("the counters say %d, of %d events", counted, end)
	}
}
