package sqlite_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/sqlite"
	"github.com/eventsourcing-go/eventsourcing/sqlite/internal/powerloss"
)

const pageBytes = 4096

// putOnDisk makes a disk with a file.
func putOnDisk(t testing.TB, content []byte) *powerloss.Disk {
	t.Helper()
	disk := powerloss.NewDisk(t, powerloss.Config{})
	disk.Put(diskFile, content)
	return disk
}

// useAll does some of everything with the file of a disk, and returns the errors.
func useAll(t *testing.T, disk *powerloss.Disk) (errs []error) {
	t.Helper()
	ctx := context.Background()
	db, err := sqlite.Open(worldOnDisk(disk))
	if err != nil {
		return []error{err}
	}
	note := func(err error) { errs = append(errs, err) }
	for _, q := range []es.Query{{}, {Stream: "plain-1"}, {Names: []string{"Name1"}}, {Tags: []string{"tag:1"}, Reverse: true}, {Category: "order"}} {
		for _, err := range db.Events().Read(ctx, q) {
			if err != nil {
				note(err)
			}
		}
	}
	for _, stream := range []string{"plain-1", "order-1", "new-1"} {
		_, err := db.Events().Append(ctx, es.AppendTo(stream, es.Any, event(stream, 1)))
		note(err)
	}
	note(db.Outbox().Enqueue(ctx, event("mail-1", 1)))
	_, err = db.Outbox().Claim(ctx, make([]es.Entry, 10), es.ClaimOptions{Owner: "test"})
	note(err)
	_, err = db.ReadModels().List(ctx, es.ListQuery{Model: "orders"})
	note(err)
	note(db.ReadModels().Commit(ctx, es.Commit{Writes: []es.Write{{Model: "orders", Key: "2", Data: []byte("{}")}}}))
	note(db.Dedupe().Reserve(ctx, "consumer", []es.Reservation{{ID: es.NewID()}}, 0))
	_, err = db.Leases().Acquire(ctx, "lease", "test", 1)
	note(err)
	note(db.Snapshots().Save(ctx, snapshot(1)))
	note(db.Update(ctx, func(tx *sqlite.Tx) error { return tx.Exec("INSERT INTO rows SELECT max(n) + 1 FROM rows") }))
	note(db.Close())
	return errs
}

// isDamage tells whether an error is one that a damaged file may give.
func isDamage(err error) bool {
	return errors.Is(err, sqlite.ErrCorrupt) || errors.Is(err, sqlite.ErrForeign) || errors.Is(err, sqlite.ErrNewer)
}

func TestADamagedPageIsFoundAndEndsNobody(t *testing.T) {
	t.Parallel()
	f := newDamagedFile(t)
	r := rand.New(rand.NewPCG(1, 2))
	for page := range f.pages() {
		for n, how := range []string{"zeros", "noise", "another page"} {
			content := make([]byte, pageBytes)
			switch how {
			case "zeros":
			case "noise":
				for i := range content {
					content[i] = byte(r.Uint32())
				}
			default:
				content = f.page((page + 7) % f.pages())
			}
			disk := f.with(t, page, content)
			if disk == nil {
				continue
			}
			f.wantFound(t, disk, page, how)
			if page%3 == n { // it takes a while
				for _, err := range useAll(t, disk) {
					if err != nil && !isDamage(err) && !tolerable(err) {
						t.Errorf("page %d has become %s: %v", page+1, how, err)
					}
				}
			}
			must(t, disk.Close())
		}
	}
}

var allPairs = flag.Bool("damage.pairs", false, "put each page of a file in the place of each other one; takes some minutes")

// A disk may write a page to the place of another one. Each of them is sound by itself then.
func TestAPageInThePlaceOfAnotherIsFound(t *testing.T) {
	t.Parallel()
	f := newDamagedFile(t)
	exchange := func(page, other int) {
		disk := f.with(t, page, f.page(other))
		if disk == nil {
			return
		}
		f.wantFound(t, disk, page, fmt.Sprintf("page %d (%s)", other+1, f.names[other+1]))
		must(t, disk.Close())
	}
	if *allPairs {
		for page := range f.pages() {
			for other := range f.pages() {
				exchange(page, other)
			}
		}
		return
	}
	r := rand.New(rand.NewPCG(5, 6))
	for range 100 {
		exchange(r.IntN(f.pages()), r.IntN(f.pages()))
	}
	// The tables of one page are those that nothing else tells about.
	alone := f.onePage()
	for range 100 {
		exchange(alone[r.IntN(len(alone))], alone[r.IntN(len(alone))])
	}
}

// damagedFile is a file, of which a page is about to be damaged.
type damagedFile struct {
	whole []byte
	names map[int]string // whose page it is, but for those with the rest of a payload; they are counted from 1
}

func newDamagedFile(t *testing.T) *damagedFile {
	t.Helper()
	path := fullFile(t)
	return &damagedFile{whole: readFile(t, path), names: structure(t, path)}
}

// pages is how many pages there are.
func (f *damagedFile) pages() int { return len(f.whole) / pageBytes }

// page is one of them, the first is 0.
func (f *damagedFile) page(n int) []byte { return f.whole[n*pageBytes:][:pageBytes] }

// onePage returns the pages that are a table or an index by themselves.
func (f *damagedFile) onePage() (alone []int) {
	of := map[string][]int{}
	for page, name := range f.names {
		of[name] = append(of[name], page-1)
	}
	for _, pages := range of {
		if len(pages) == 1 {
			alone = append(alone, pages[0])
		}
	}
	slices.Sort(alone)
	return alone
}

// with returns a disk that has the file with another content of a page, nil when that is no damage: it is what was there, or a table
// without anything in it, which is none by itself.
func (f *damagedFile) with(t *testing.T, page int, content []byte) *powerloss.Disk {
	t.Helper()
	before := f.page(page)
	empty := content[0] == before[0] && content[3] == 0 && content[4] == 0
	if empty || bytes.Equal(before, content) {
		return nil
	}
	damaged := slices.Clone(f.whole)
	copy(damaged[page*pageBytes:], content)
	return putOnDisk(t, damaged)
}

// fullNames are the tables and indexes of the file and of its first namespace.
var fullNames = regexp.MustCompile(`es_([a-z_]+_1|spaces)(_|$)`)

// wantFound fails the test unless Check finds that a page has become something else. The second namespace is nearly empty, and its tables
// may pass for those of the first one.
func (f *damagedFile) wantFound(t *testing.T, disk *powerloss.Disk, page int, how string) {
	t.Helper()
	report, err := sqlite.Check(t.Context(), onDisk(disk))
	name := f.names[page+1]
	switch {
	case err != nil && !isDamage(err):
		t.Errorf("page %d (%s) has become %s: check: %v", page+1, name, how, err)
	case err == nil && report.OK() && fullNames.MatchString(name):
		t.Errorf("page %d (%s) has become %s, and nothing was found", page+1, name, how)
	}
}

// structure tells whose pages those of a file are, but for those with the rest of a payload.
func structure(t *testing.T, path string) map[int]string {
	t.Helper()
	c := connect(t, path)
	pages := map[int]string{}
	list := run(t, c, "SELECT group_concat(pageno || '=' || name, ' ') FROM dbstat WHERE pagetype <> 'overflow' AND name GLOB '*es_*'")
	for page := range strings.FieldsSeq(list) {
		number, name, _ := strings.Cut(page, "=")
		n, err := strconv.Atoi(number)
		must(t, err)
		pages[n] = name
	}
	must(t, c.Close())
	return pages
}

// A bit in a payload nobody notices but who reads it. Everything else is noticed, or does not matter.
func TestAFlippedBitEndsNobody(t *testing.T) {
	t.Parallel()
	whole := readFile(t, fullFile(t))
	r := rand.New(rand.NewPCG(3, 4))
	for range 80 {
		disk := putOnDisk(t, whole)
		at := int64(r.IntN(len(whole)))
		disk.Flip(diskFile, at)
		if _, err := sqlite.Check(t.Context(), onDisk(disk)); err != nil && !isDamage(err) {
			t.Errorf("byte %d: check: %v", at, err)
		}
		for _, err := range useAll(t, disk) {
			if err != nil && !isDamage(err) && !tolerable(err) {
				t.Errorf("byte %d: %v", at, err)
			}
		}
		must(t, disk.Close())
	}
}

// tolerable are the errors of a file in which a name, or a number, is another one.
func tolerable(err error) bool {
	for _, part := range []string{"no such", "constraint", "conflict", "duplicate", "database schema", "no column", "datatype mismatch"} {
		if strings.Contains(err.Error(), part) {
			return true
		}
	}
	return false
}

func TestADamagedHeaderIsTold(t *testing.T) {
	t.Parallel()
	whole := readFile(t, fullFile(t))
	for name, test := range map[string]struct {
		damage func(file []byte) []byte
		want   error
	}{
		"no magic":      {func(f []byte) []byte { f[0] ^= 1; return f }, sqlite.ErrForeign},
		"page size":     {func(f []byte) []byte { f[16], f[17] = 7, 7; return f }, sqlite.ErrForeign},
		"schema":        {func(f []byte) []byte { clear(f[100:pageBytes]); return f }, sqlite.ErrCorrupt},
		"cut":           {func(f []byte) []byte { return f[:3*pageBytes] }, sqlite.ErrCorrupt},
		"cut in a page": {func(f []byte) []byte { return f[:3*pageBytes+100] }, sqlite.ErrCorrupt},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			disk := putOnDisk(t, test.damage(slices.Clone(whole)))
			_, err := sqlite.Open(onDisk(disk))
			wantError(t, "open", err, test.want)
			report, err := sqlite.Check(t.Context(), onDisk(disk))
			if err == nil {
				err = report.Err()
			}
			wantError(t, "check", err, test.want)
		})
	}
}

// logged is a disk of which the program was killed when everything was in its log.
func logged(t *testing.T) (disk *powerloss.Disk, names []string) {
	t.Helper()
	first := powerloss.NewDisk(t, powerloss.Config{})
	db := openStore(t, onDisk(first))
	for n := range 3 {
		names = append(names, fmt.Sprintf("order-1 %d Event%d", n+1, n))
		appendTo(t, db, "order-1", n)
	}
	must(t, db.Close())
	db = openStore(t, onDisk(first))
	for n := range 12 {
		names = append(names, fmt.Sprintf("order-1 %d Event%d", n+4, n))
		appendTo(t, db, "order-1", n)
	}
	return first.Kill(), names
}

// A log that is cut off somewhere has what was committed before that. Nobody can tell that there was more.
func TestACutLogHasWhatWasCommittedBeforeTheCut(t *testing.T) {
	t.Parallel()
	disk, names := logged(t)
	log := disk.File(diskFile + "-wal")
	lengths := map[int]bool{}
	for size := 0; size < len(log); size += 1000 {
		cut := putOnDisk(t, disk.File(diskFile))
		cut.Put(diskFile+"-wal", log[:size])
		wantSound(t, onDisk(cut))
		db := openStore(t, onDisk(cut))
		there := strings.Split(strings.TrimSpace(history(t, db)), "\n")
		if len(there) < 3 || len(there) > len(names) || !slices.Equal(there, names[:len(there)]) {
			t.Fatalf("with %d of %d bytes there is %q", size, len(log), there)
		}
		lengths[len(there)] = true
		appendTo(t, db, "order-1", 100)
		wantHistory(t, db, append(slices.Clone(there), fmt.Sprintf("order-1 %d Event100", len(there)+1))...)
		must(t, db.Close())
		wantSound(t, onDisk(cut))
	}
	if len(lengths) < 10 {
		t.Errorf("there were %d histories", len(lengths))
	}
}

func TestAMissingLogLeavesWhatWasBroughtIn(t *testing.T) {
	t.Parallel()
	disk, names := logged(t)
	disk.Remove(diskFile + "-wal")
	wantSound(t, onDisk(disk))
	db := openStore(t, onDisk(disk))
	wantHistory(t, db, names[:3]...)
	appendTo(t, db, "order-1", 100)
	wantHistory(t, db, append(names[:3:3], "order-1 4 Event100")...)
}

// What is wrong with the index is told, and not taken for the end of a history.
func TestADamagedBlockOfTheIndexIsToldAndNotPassedOver(t *testing.T) {
	t.Parallel()
	path := fullFile(t)
	c := connect(t, path)
	run(t, c, "UPDATE es_blocks_1 SET data = zeroblob(length(data))")
	must(t, c.Close())
	db := openStore(t, sqlite.Config{Path: path})
	read := func(q es.Query) (n int, err error) {
		for _, err := range db.Events().Read(t.Context(), q) {
			if err != nil {
				return n, err
			}
			n++
		}
		return n, nil
	}
	for _, q := range []es.Query{{Stream: "plain-1"}, {Category: "plain"}, {Names: []string{"Name1"}}, {Tags: []string{"tag:1"}}} {
		n, err := read(q)
		wantError(t, fmt.Sprintf("after %d events of %+v", n, q), err, sqlite.ErrCorrupt)
	}
	_, err := db.Events().Append(t.Context(), es.AppendTo("order-3", es.Any, event("order-3", 1)))
	wantError(t, "append", err, sqlite.ErrCorrupt)
	if n, err := read(es.Query{}); err != nil || n < 40 {
		t.Errorf("without the index there are %d events: %v", n, err)
	}
}
