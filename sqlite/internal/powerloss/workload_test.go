package powerloss_test

import (
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"zombiezen.com/go/sqlite"

	"github.com/eventsourcing-go/eventsourcing/sqlite/internal/powerloss"
)

// workload is what random transactions on a small table have left on a disk.
type workload struct {
	disk *powerloss.Disk
	// tables is what the table is like after so many transactions.
	tables []string
	// began is the moment before the transaction of this number; the first has the number 1.
	began []int
	// done is the moment when its COMMIT had returned.
	done []int
}

// work does random transactions on a new database, and every now and then goes away and comes back.
func work(tb testing.TB, disk *powerloss.Disk, r *rand.Rand, transactions int, settings ...string) *workload {
	tb.Helper()
	w := &workload{disk: disk, tables: []string{""}, began: []int{0}, done: []int{0}}
	conn := connect(tb, disk, settings...)
	for n := 1; n <= transactions; n++ {
		if r.IntN(40) == 0 {
			disconnect(tb, conn)
			conn = connect(tb, disk, settings...)
		}
		w.began = append(w.began, disk.Moment())
		exec(tb, conn, "BEGIN IMMEDIATE")
		if n == 1 {
			exec(tb, conn, "CREATE TABLE items (id INTEGER PRIMARY KEY, body TEXT NOT NULL, sum BLOB NOT NULL) STRICT")
		}
		// The item 0 makes the table differ after each transaction.
		put(tb, conn, 0, strconv.Itoa(n))
		for range r.IntN(6) {
			id := 1 + r.IntN(60)
			if r.IntN(4) == 0 {
				exec(tb, conn, "DELETE FROM items WHERE id=?", id)
				continue
			}
			put(tb, conn, id, fmt.Sprint(n, strings.Repeat("x", r.IntN(700))))
		}
		exec(tb, conn, "COMMIT")
		w.done = append(w.done, disk.Moment())
		w.tables = append(w.tables, rows(tb, conn, allItems))
	}
	disconnect(tb, conn)
	return w
}

const allItems = "SELECT id, body, hex(sum) FROM items ORDER BY id"

func put(tb testing.TB, conn *sqlite.Conn, id int, body string) {
	tb.Helper()
	sum := sha256.Sum256(fmt.Appendf(nil, "%d %s", id, body))
	exec(tb, conn, "INSERT OR REPLACE INTO items VALUES (?, ?, ?)", id, body, sum[:4])
}

// finding is what is found on a disk after an accident at a moment.
type finding struct {
	whole   bool // SQLite finds nothing wrong
	half    bool // the table is as it never was after a transaction
	lost    int  // how many transactions are lost whose COMMIT had returned
	unbegun bool // a transaction is there that had not begun
}

// inspect opens the database on a disk after an accident at a moment, and closes the disk.
func (w *workload) inspect(tb testing.TB, disk *powerloss.Disk, moment int) finding {
	tb.Helper()
	conn := connect(tb, disk)
	check, err := tryRows(conn, "PRAGMA integrity_check")
	found := finding{whole: err == nil && check == "ok"}
	table, err := tryRows(conn, allItems)
	if err != nil && !strings.Contains(err.Error(), "no such table") {
		found.whole = false
	}
	disconnect(tb, conn)
	if err := disk.Close(); err != nil {
		tb.Fatal(err)
	}
	there := slices.Index(w.tables, table)
	found.half = there < 0
	if found.half {
		return found
	}
	done, _ := slices.BinarySearch(w.done, moment+1) // how many moments are not after this one
	found.lost = max(0, done-1-there)
	found.unbegun = w.began[there] > moment
	return found
}

// sane are the findings after which nothing that was promised is missing.
func (f finding) sane() bool { return f.whole && !f.half && f.lost == 0 && !f.unbegun }
