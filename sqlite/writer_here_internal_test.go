package sqlite

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	lite "zombiezen.com/go/sqlite"

	es "github.com/eventsourcing-go/eventsourcing"
)

// until waits for something that another goroutine brings about.
func until(t *testing.T, what string, so func() bool) {
	t.Helper()
	for begun := time.Now(); !so(); runtime.Gosched() {
		if time.Since(begun) > time.Minute {
			t.Errorf("not within a minute: %s", what)
			return
		}
	}
}

func (w *writer) isClosed() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.closed
}

// openMine opens a store with a table of the program's own.
func openMine(t *testing.T, c Config) *DB {
	t.Helper()
	db := openTemp(t, c)
	if err := db.Update(t.Context(), func(tx *Tx) error { return tx.Exec("CREATE TABLE mine (n UNIQUE)") }); err != nil {
		t.Fatal(err)
	}
	return db
}

// insert is an op that writes a number, after something else.
func insert(n int, first func()) *op {
	return &op{run: func(tx *txn) error {
		if first != nil {
			first()
		}
		return tx.write("INSERT INTO mine VALUES (?)", n)
	}}
}

func wantNumbers(t *testing.T, db *DB, want string) {
	t.Helper()
	if err := db.read(t.Context(), func(c *conn) error {
		if got := numbers(t, c); got != want {
			t.Errorf("there is %q and not %q", got, want)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
}

// onThisGoroutine tells whether the caller runs on the goroutine of a test.
func onThisGoroutine(t *testing.T) bool {
	t.Helper()
	return strings.Contains(string(debug.Stack()), t.Name()+"(")
}

// A write that nobody else is in the way of needs no other goroutine.
func TestALoneWriteIsDoneOnTheGoroutineOfItsCaller(t *testing.T) {
	t.Parallel()
	db := openMine(t, Config{})
	here := 0
	for n := range 10 {
		o := insert(n, func() {
			if onThisGoroutine(t) {
				here++
			}
		})
		if err := db.writer.do(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
	if here < 9 { // the goroutine may have had something to do once, when the file was opened
		t.Errorf("%d of 10 writes were done on the goroutine of their caller", here)
	}
}

// What comes while a caller does his write is done in one transaction after that, and by others: his call has returned by then.
func TestWhoDoesHisOwnWriteIsNotKeptForOthers(t *testing.T) {
	t.Parallel()
	const others = 10
	db := openMine(t, Config{})
	told := make(chan struct{})
	times := make([]int64, others)
	var wait sync.WaitGroup
	err := db.writer.do(t.Context(), insert(0, func() {
		for n := range others {
			wait.Go(func() {
				err := db.writer.do(t.Context(), &op{run: func(tx *txn) error {
					<-told
					times[n] = tx.now
					return tx.write("INSERT INTO mine VALUES (?)", n+1)
				}})
				if err != nil {
					t.Errorf("write %d: %v", n, err)
				}
			})
		}
		until(t, "all the others wait", func() bool { return db.writer.length() == others })
	}))
	close(told)
	if err != nil {
		t.Error(err)
	}
	wait.Wait()
	for _, at := range times {
		if at != times[0] {
			t.Errorf("those who have waited had transactions at %v", times)
			break
		}
	}
}

// To close the writer waits for a caller who does his own write, and for what has come meanwhile. Nothing comes after that.
func TestClosingWaitsForWhoDoesHisOwnWrite(t *testing.T) {
	t.Parallel()
	for others, want := range []string{"0", "0 1", "0 1 2"} {
		t.Run(fmt.Sprint(others, " others"), func(t *testing.T) {
			t.Parallel()
			db := openMine(t, Config{})
			w := db.writer
			var wait sync.WaitGroup
			err := w.do(t.Context(), insert(0, func() {
				for n := range others {
					wait.Go(func() {
						if err := w.do(t.Context(), insert(n+1, nil)); err != nil {
							t.Errorf("who came before the end: %v", err)
						}
					})
					until(t, "another one waits", func() bool { return w.length() == n+1 })
				}
				wait.Go(w.close)
				until(t, "the writer is to end", w.isClosed)
				select {
				case <-w.ended:
					t.Error("the writer has ended while a write was done")
				default:
				}
				if err := w.do(t.Context(), insert(100, nil)); !errors.Is(err, es.ErrClosed) {
					t.Errorf("who came after the end: %v", err)
				}
			}))
			if err != nil {
				t.Error(err)
			}
			wait.Wait()
			wantNumbers(t, db, want)
		})
	}
}

// An op whose context has ended before it begins is not done, and nobody touches it afterwards: who has withdrawn it may use it again.
func TestAWithdrawnOpIsForgotten(t *testing.T) {
	t.Parallel()
	db := openMine(t, Config{})
	w := db.writer
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	withdrawn := func() { t.Error("a withdrawn op was done") }
	never := insert(1, withdrawn)
	if err := w.do(ended, never); !errors.Is(err, context.Canceled) {
		t.Errorf("before it was submitted: %v", err)
	}
	if err := w.do(t.Context(), insert(0, func() {
		ops := []*op{never, insert(2, withdrawn)}
		w.doAll(ended, ops)
		if !errors.Is(ops[0].err, context.Canceled) || !errors.Is(ops[1].err, context.Canceled) {
			t.Errorf("while they waited: %v, %v", ops[0].err, ops[1].err)
		}
		if n := w.length(); n != 0 {
			t.Errorf("%d ops are in the queue, and all were withdrawn", n)
		}
	})); err != nil {
		t.Error(err)
	}
	*never = op{} // so it is before it is used again
	if err := w.do(t.Context(), insert(3, nil)); err != nil {
		t.Error(err)
	}
	wantNumbers(t, db, "0 3")
}

// An append that is withdrawn while it waits leaves nothing behind that the writer stumbles over.
func TestTheWriterGoesOnAfterAnAppendWasWithdrawn(t *testing.T) {
	t.Parallel()
	db := openMine(t, Config{})
	m := es.NewMessage("order-1", "Placed", nil)
	err := db.Update(t.Context(), func(*Tx) error {
		ctx, cancel := context.WithCancel(t.Context())
		appended := make(chan error)
		go func() {
			_, err := db.Events().Append(ctx, es.AppendTo("order-1", es.NoStream, m))
			appended <- err
		}()
		until(t, "the append waits", func() bool { return db.writer.length() == 1 })
		cancel()
		if err := <-appended; !errors.Is(err, context.Canceled) {
			t.Errorf("an append that was withdrawn: %v", err)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := db.writer.do(ctx, insert(0, nil)); err != nil {
		t.Errorf("the write after it: %v", err)
	}
	if done, err := db.Events().Append(ctx, es.AppendTo("order-1", es.NoStream, m)); err != nil || done.Existing != 0 {
		t.Errorf("the append, once more: %+v, %v", done, err)
	}
}

// A caller does not wait on his own goroutine for those who have the file: neither for a handle that has the turn or is the next one, nor
// for a program that knows nothing of turns. He can withdraw meanwhile, and overtakes nobody.
func TestWhoHasToWaitForOthersCanWithdraw(t *testing.T) {
	t.Parallel()
	for name, occupy := range map[string]func(t *testing.T, db *DB) (leave func() error){
		"the turn": func(t *testing.T, db *DB) func() error {
			t.Helper()
			return locked(t, db.config.Path+"-turn")
		},
		"the place of the next one": func(t *testing.T, db *DB) func() error {
			t.Helper()
			return locked(t, db.config.Path+"-next")
		},
		"a program without turns": func(t *testing.T, db *DB) func() error {
			t.Helper()
			c, err := openConn(db.config, lite.OpenReadWrite)
			if err != nil {
				t.Fatal(err)
			}
			if err := c.query(nil, "BEGIN IMMEDIATE"); err != nil {
				t.Fatal(err)
			}
			return func() error { return errors.Join(c.query(nil, "ROLLBACK"), c.closeConn()) }
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := openMine(t, Config{BusyTimeout: time.Hour})
			for round := range 3 {
				leave := occupy(t, db)
				ctx, cancel := context.WithCancel(t.Context())
				outcome := make(chan error)
				go func() { outcome <- db.writer.do(ctx, insert(100, func() { t.Error("a write was done in between") })) }()
				until(t, "the write waits", func() bool { return db.writer.length() == 1 })
				cancel()
				if err := <-outcome; !errors.Is(err, context.Canceled) {
					t.Error(err)
				}
				free := make(chan struct{})
				go func() {
					outcome <- db.writer.do(t.Context(), insert(round, func() {
						select {
						case <-free:
						default:
							t.Error("a write was done in between")
						}
					}))
				}()
				until(t, "the next write waits", func() bool { return db.writer.length() == 1 })
				close(free)
				if err := leave(); err != nil {
					t.Error(err)
				}
				if err := <-outcome; err != nil {
					t.Error(err)
				}
			}
			wantNumbers(t, db, "0 1 2")
		})
	}
}

// locked locks a file as another process does.
func locked(t *testing.T, path string) (unlock func() error) {
	t.Helper()
	l, err := openFileLock(path)
	if err != nil {
		t.Fatal(err)
	}
	if free, err := l.try(); !free {
		t.Fatalf("%s is not free: %v", path, err)
	}
	return l.close
}

// outcomeOf calls a function on a goroutine of its own, and returns how that has ended.
func outcomeOf(do func() error) (outcome string) {
	outcome = "the end of the goroutine"
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		defer func() {
			if p := recover(); p != nil {
				outcome = fmt.Sprintf("a panic: %v", p)
			}
		}()
		outcome = fmt.Sprint(do())
	}()
	<-ended
	return outcome
}

// Whatever becomes of the function of an update, on the goroutine of its caller, it is his own; nothing of the update is left, and the
// next one has the file.
func TestAnUpdateThatDoesNotReturnLeavesNothing(t *testing.T) {
	t.Parallel()
	undone := func(tx *Tx) { _ = tx.tx.write("INSERT OR ROLLBACK INTO mine VALUES (0)") } // as SQLite does after some errors
	for name, c := range map[string]struct {
		end  func(tx *Tx) error
		want string
	}{
		"panic":             {func(*Tx) error { panic("mine") }, "a panic: mine"},
		"panic, undone":     {func(tx *Tx) error { undone(tx); panic("mine") }, "a panic: mine"},
		"goexit":            {func(*Tx) error { runtime.Goexit(); return nil }, "the end of the goroutine"},
		"goexit, undone":    {func(tx *Tx) error { undone(tx); runtime.Goexit(); return nil }, "the end of the goroutine"},
		"its own error":     {func(*Tx) error { return errors.New("mine") }, "mine"},
		"passed over, lost": {func(tx *Tx) error { undone(tx); return nil }, errUndone.Error()},
	} {
		for _, busy := range []string{"alone", "in turn"} {
			t.Run(name+", "+busy, func(t *testing.T) {
				t.Parallel()
				db := openMine(t, Config{})
				if err := db.writer.do(t.Context(), insert(0, nil)); err != nil {
					t.Fatal(err)
				}
				update := func() error {
					return db.Update(t.Context(), func(tx *Tx) error {
						_, err := tx.Append(es.AppendTo("order-1", es.NoStream, es.NewMessage("order-1", "Placed", nil)))
						if err := errors.Join(err, tx.Exec("INSERT INTO mine VALUES (1)")); err != nil {
							t.Error(err)
						}
						return c.end(tx)
					})
				}
				outcome := make(chan string, 1)
				if busy == "alone" {
					outcome <- outcomeOf(update)
				} else if err := db.writer.do(t.Context(), insert(2, func() {
					go func() { outcome <- outcomeOf(update) }()
					until(t, "the update waits", func() bool { return db.writer.length() == 1 })
				})); err != nil {
					t.Error(err)
				}
				if got := <-outcome; got != c.want {
					t.Errorf("the outcome is %s", got)
				}
				if err := db.writer.do(t.Context(), insert(3, nil)); err != nil {
					t.Error(err)
				}
				wantNumbers(t, db, map[string]string{"alone": "0 3", "in turn": "0 2 3"}[busy])
				done, err := db.Events().Append(t.Context(), es.AppendTo("order-1", es.NoStream, es.NewMessage("order-1", "Placed", nil)))
				if err != nil || done.Places[0] != (es.Place{Version: 1, Position: 1}) {
					t.Errorf("an append after it: %+v, %v", done, err)
				}
			})
		}
	}
}

// A panic of what the toolkit does itself is an outcome, on the goroutine of a caller too.
func TestAPanicInALoneOpIsItsOutcome(t *testing.T) {
	t.Parallel()
	db := openMine(t, Config{})
	err := db.writer.do(t.Context(), &op{run: func(tx *txn) error { _ = tx.write("INSERT INTO mine VALUES (1)"); panic("mine") }})
	if p, ok := errors.AsType[*es.PanicError](err); !ok || p.Value != "mine" {
		t.Errorf("the outcome is %v", err)
	}
	if err := db.writer.do(t.Context(), insert(2, nil)); err != nil {
		t.Error(err)
	}
	wantNumbers(t, db, "2")
}

// Callers who come and go at all times, some of them lone ones, some together, some with contexts that end, and updates that do not
// return: what was acknowledged is there, and nothing else. Then the store is closed in the middle of it.
func TestLoneWritesAndBatchesAndTheEnd(t *testing.T) {
	t.Parallel()
	const callers, each = 6, 60
	db := openMine(t, Config{CheckpointPages: 50})
	var there [callers * each]atomic.Bool // what was acknowledged
	write := func(number int, random *rand.Rand) error {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		n := strconv.Itoa(number)
		switch random.IntN(6) {
		case 0:
			go cancel()
			fallthrough
		case 1, 2:
			return db.writer.do(ctx, &op{run: func(tx *txn) error { return tx.write("INSERT INTO mine VALUES (?)", n) }, relaxed: number%2 == 0})
		case 3:
			ops := []*op{insert(callers*each+number, nil), {run: func(tx *txn) error { return tx.write("INSERT INTO mine VALUES (?)", n) }}}
			db.writer.doAll(ctx, ops)
			return ops[1].err
		case 4:
			return db.Update(ctx, func(tx *Tx) error { return tx.Exec("INSERT INTO mine VALUES (?)", n) })
		}
		return errors.New(outcomeOf(func() error {
			return db.Update(ctx, func(tx *Tx) error {
				_ = tx.Exec("INSERT INTO mine VALUES (?)", n)
				runtime.Goexit()
				return nil
			})
		}))
	}
	var wait sync.WaitGroup
	var acknowledged atomic.Int64
	for c := range callers {
		wait.Go(func() {
			random := rand.New(rand.NewPCG(1, uint64(c)))
			for i := range each {
				if err := write(c*each+i, random); err == nil {
					there[c*each+i].Store(true)
					acknowledged.Add(1)
				} else if errors.Is(err, es.ErrClosed) {
					return
				}
				for range random.IntN(3) * 20 { // now and then nobody is there
					runtime.Gosched()
				}
			}
		})
	}
	until(t, "a quarter of it is done", func() bool { return acknowledged.Load() > callers*each/4 })
	path := db.config.Path
	if err := db.Close(); err != nil {
		t.Error(err)
	}
	wait.Wait()
	c, err := openConn(Config{Path: path}, lite.OpenReadOnly)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.closeConn() }() // its error is of no interest
	found := map[string]bool{}
	for n := range strings.FieldsSeq(numbers(t, c)) {
		found[n] = true
	}
	for n := range there {
		if there[n].Load() != found[strconv.Itoa(n)] {
			t.Errorf("write %d: acknowledged %v, there %v", n, there[n].Load(), found[strconv.Itoa(n)])
		}
	}
}
