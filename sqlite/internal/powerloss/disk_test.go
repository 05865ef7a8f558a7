package powerloss

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"strconv"
	"strings"
	"testing"

	lib "modernc.org/sqlite/lib"
	"zombiezen.com/go/sqlite"
)

// open opens a file, or creates it. Its folder is synced when it is.
func open(t *testing.T, d *Disk, name string) *handle {
	t.Helper()
	h, _, code := d.openFile(name, lib.SQLITE_OPEN_READWRITE|lib.SQLITE_OPEN_CREATE|lib.SQLITE_OPEN_WAL)
	wantOK(t, code)
	t.Cleanup(func() {
		d.mu.Lock()
		_, isOpen := d.open[h]
		d.mu.Unlock()
		if isOpen {
			h.close(nil)
		}
	})
	return h
}

func wantOK(t *testing.T, code sqlite.ResultCode) {
	t.Helper()
	if code != sqlite.ResultOK {
		t.Fatal(code)
	}
}

func write(t *testing.T, h *handle, text string, offset int64) {
	t.Helper()
	wantOK(t, h.write([]byte(text), offset))
}

// all gives the same fate to every change.
func all(f Fate) func(Change) Fate { return func(Change) Fate { return f } }

// want fails the test unless the files of a disk are these, by name and content.
func want(t *testing.T, what string, d *Disk, files map[string]string) {
	t.Helper()
	got := map[string]string{}
	for _, name := range d.Files() {
		got[name] = string(d.File(name))
	}
	if !reflect.DeepEqual(got, files) {
		t.Errorf("%s: got %q, want %q", what, got, files)
	}
}

func TestWhatWasSyncedIsThereWhateverBecomesOfTheRest(t *testing.T) {
	t.Parallel()
	d := NewDisk(t, Config{})
	h := open(t, d, "a")
	write(t, h, "first", 0)
	wantOK(t, h.sync())
	synced := d.Moment()
	write(t, h, "F", 0)
	want(t, "dropped", d.CutBy(d.Moment(), all(Dropped())), map[string]string{"a": "first"})
	want(t, "kept", d.CutBy(d.Moment(), all(Kept())), map[string]string{"a": "First"})
	want(t, "before the sync", d.CutBy(synced-2, all(Dropped())), map[string]string{})
	want(t, "after the sync", d.CutBy(synced, all(Dropped())), map[string]string{"a": "first"})
	want(t, "for programs", d, map[string]string{"a": "First"})
}

func TestALaterWriteMaySurviveWithoutAnEarlierOne(t *testing.T) {
	t.Parallel()
	d := NewDisk(t, Config{Folder: FolderAtOnce})
	h := open(t, d, "a")
	write(t, h, "abc", 0)
	write(t, h, "def", 3)
	later := func(c Change) Fate {
		if c.Offset == 3 {
			return Kept()
		}
		return Dropped()
	}
	want(t, "the later one", d.CutBy(d.Moment(), later), map[string]string{"a": "\x00\x00\x00def"})
	want(t, "none", d.CutBy(d.Moment(), all(Dropped())), map[string]string{"a": ""})
	want(t, "none but the size", d.CutBy(d.Moment(), all(Grown())), map[string]string{"a": strings.Repeat("\x00", 6)})
}

func TestAWriteIsTornBetweenSectors(t *testing.T) {
	t.Parallel()
	for _, sector := range []Sector{Sector512, Sector4096} {
		d := NewDisk(t, Config{Sector: sector, Folder: FolderAtOnce})
		h := open(t, d, "a")
		size, before := int(sector), int(sector)-10
		write(t, h, strings.Repeat("-", 3*size), 0)
		wantOK(t, h.sync())
		write(t, h, strings.Repeat("x", size+20), int64(before)) // the ends of two sectors, and one in between
		var asked []Change
		d.CutBy(d.Moment(), func(c Change) Fate {
			asked = append(asked, c)
			return Kept()
		})
		// Moments: created, written, synced, the folder synced, and this one.
		is := []Change{{Moment: 5, Kind: Written, File: "a", Offset: int64(before), Bytes: size + 20, Sectors: 3}}
		if !reflect.DeepEqual(asked, is) {
			t.Errorf("asked about %+v, want %+v", asked, is)
		}
		for _, test := range []struct {
			fate Fate
			want string
		}{
			{Torn(), strings.Repeat("-", 3*size)},
			{Torn(true), strings.Repeat("-", before) + strings.Repeat("x", 10) + strings.Repeat("-", 2*size)},
			{Torn(false, true, false), strings.Repeat("-", size) + strings.Repeat("x", size) + strings.Repeat("-", size)},
			{Torn(false, false, true), strings.Repeat("-", 2*size) + strings.Repeat("x", 10) + strings.Repeat("-", size-10)},
			{Torn(true, true, true, true), strings.Repeat("-", before) + strings.Repeat("x", size+20) + strings.Repeat("-", size-10)},
		} {
			want(t, fmt.Sprint(test.fate), d.CutBy(d.Moment(), all(test.fate)), map[string]string{"a": test.want})
		}
	}
}

func TestAFileIsCreatedAndDeletedForSureWhenItsFolderIsSynced(t *testing.T) {
	t.Parallel()
	d := NewDisk(t, Config{})
	wantOK(t, open(t, d, "a").sync()) // the folder, too
	wantOK(t, d.deleteFile("a", 0))
	second := open(t, d, "a")
	write(t, second, "second", 0)
	second.syncsFolder = false
	wantOK(t, second.sync())
	want(t, "none of it", d.CutBy(d.Moment(), all(Dropped())), map[string]string{"a": ""})
	want(t, "all of it", d.CutBy(d.Moment(), all(Kept())), map[string]string{"a": "second"})
	deleted := func(c Change) Fate {
		if c.Kind == Deleted {
			return Kept()
		}
		return Dropped()
	}
	want(t, "deleted only", d.CutBy(d.Moment(), deleted), map[string]string{})
	wantOK(t, d.deleteFile("a", 1))
	want(t, "deleted, and synced", d.CutBy(d.Moment(), all(Dropped())), map[string]string{})
}

func TestATruncationIsAChangeLikeOthers(t *testing.T) {
	t.Parallel()
	d := NewDisk(t, Config{})
	h := open(t, d, "a")
	write(t, h, "abcdef", 0)
	wantOK(t, h.sync())
	wantOK(t, h.truncate(2))
	write(t, h, "xy", 4)
	want(t, "for programs", d, map[string]string{"a": "ab\x00\x00xy"})
	cut := func(c Change) Fate {
		if c.Kind == Truncated {
			return Kept()
		}
		return Dropped()
	}
	want(t, "cut", d.CutBy(d.Moment(), cut), map[string]string{"a": "ab"})
	want(t, "not cut", d.CutBy(d.Moment(), all(Dropped())), map[string]string{"a": "abcdef"})
	want(t, "both", d.CutBy(d.Moment(), all(Kept())), map[string]string{"a": "ab\x00\x00xy"})
}

// After a sync has failed the system takes the data for clean, and the next sync has nothing to do.
func TestWhatASyncFailedToSyncIsNotSafeAfterTheNextOne(t *testing.T) {
	t.Parallel()
	d := NewDisk(t, Config{Folder: FolderAtOnce})
	h := open(t, d, "a")
	write(t, h, "abc", 0)
	d.Inject(Fault{Op: Sync, Times: 1})
	if code := h.sync(); code != sqlite.ResultIOErrFsync {
		t.Errorf("the sync gave %v", code)
	}
	write(t, h, "X", 1)
	wantOK(t, h.sync())
	want(t, "lost", d.CutBy(d.Moment(), all(Dropped())), map[string]string{"a": "\x00X"})
	want(t, "not lost", d.CutBy(d.Moment(), all(Kept())), map[string]string{"a": "aXc"})
}

func TestWhatAKilledProgramHasWrittenIsThereAndStaysUnsafe(t *testing.T) {
	t.Parallel()
	d := NewDisk(t, Config{})
	wantOK(t, open(t, d, "a").sync())
	write(t, open(t, d, "a"), "abc", 0)
	write(t, open(t, d, "b"), "def", 0)
	killed := d.Kill()
	want(t, "killed", killed, map[string]string{"a": "abc", "b": "def"})
	if killed.Moment() != d.Moment() {
		t.Errorf("the moment is %d, want %d", killed.Moment(), d.Moment())
	}
	want(t, "killed and cut", killed.CutBy(killed.Moment(), all(Dropped())), map[string]string{"a": ""})
	wantOK(t, open(t, killed, "b").sync())
	want(t, "killed, synced and cut", killed.CutBy(killed.Moment(), all(Dropped())), map[string]string{"a": "", "b": "def"})
}

func TestTheSameSourceGivesTheSameFates(t *testing.T) {
	t.Parallel()
	d := NewDisk(t, Config{})
	for n := range 40 {
		write(t, open(t, d, strconv.Itoa(n%7)), strings.Repeat(strconv.Itoa(n), 700), int64(n*100))
	}
	lost := 0
	for seed := range uint64(20) {
		first := d.Cut(rand.New(rand.NewPCG(seed, 0)))
		files := map[string]string{}
		for _, name := range first.Files() {
			files[name] = string(first.File(name))
		}
		want(t, "again", d.Cut(rand.New(rand.NewPCG(seed, 0))), files)
		lost += 7 - len(files)
	}
	if lost == 0 || lost == 20*7 {
		t.Errorf("%d of %d files were lost", lost, 20*7)
	}
}

func TestACutLeavesTheDiskAsItIs(t *testing.T) {
	t.Parallel()
	d := NewDisk(t, Config{})
	h := open(t, d, "a")
	write(t, h, "abc", 0)
	wantOK(t, h.sync())
	cut := d.CutBy(d.Moment(), all(Dropped()))
	second := d.CutBy(d.Moment(), all(Dropped()))
	write(t, h, "d", 3)
	write(t, open(t, cut, "a"), "XYZ", 0)
	resized := open(t, second, "a")
	wantOK(t, resized.truncate(1))
	wantOK(t, resized.truncate(3))
	want(t, "the disk", d, map[string]string{"a": "abcd"})
	want(t, "the cut", cut, map[string]string{"a": "XYZ"})
	want(t, "the cut, cut", cut.CutBy(cut.Moment(), all(Dropped())), map[string]string{"a": "abc"})
	want(t, "the second cut", second, map[string]string{"a": "a\x00\x00"})
	want(t, "the second cut, cut", second.CutBy(second.Moment(), all(Dropped())), map[string]string{"a": "abc"})
}

func TestRandomFatesAreOfEveryKind(t *testing.T) {
	t.Parallel()
	kinds := map[string]int{}
	c := Change{Kind: Written, Bytes: 5 * 512, Sectors: 5}
	for seed := range uint64(50) {
		fate := Random(rand.New(rand.NewPCG(seed, 0)))
		whole := 0
		for range 100 {
			f := fate(c)
			torn := fmt.Sprint(f.sectors)
			switch {
			case f.whole:
				kinds["kept"]++
				whole++
			case f.grown:
				kinds["grown"]++
			case !strings.Contains(torn, "true"):
				kinds["dropped"]++
			case strings.Contains(torn, "false true"):
				kinds["some sectors"]++
			default:
				kinds["the first sectors"]++
			}
		}
		if whole < 10 {
			kinds["a source that keeps little"]++
		}
		if whole > 90 {
			kinds["a source that keeps much"]++
		}
	}
	for _, kind := range []string{
		"kept", "grown", "dropped", "some sectors", "the first sectors", "a source that keeps little", "a source that keeps much",
	} {
		if kinds[kind] == 0 {
			t.Errorf("there is none of the kind %q", kind)
		}
	}
}

func TestAForgottenHistoryLeavesThePresent(t *testing.T) {
	t.Parallel()
	fake := &fakeTB{TB: t}
	d := NewDisk(fake, Config{})
	h := open(t, d, "a")
	write(t, h, "abc", 0)
	wantOK(t, h.sync())
	write(t, h, "def", 0)
	write(t, open(t, d, "b"), "gone", 0)
	wantOK(t, d.deleteFile("b", 1))
	moment := d.Moment()
	d.Forget()
	write(t, h, "ghi", 0)
	want(t, "nothing kept", d.CutBy(d.Moment(), all(Dropped())), map[string]string{"a": "abc"})
	want(t, "the forgotten kept", d.CutBy(moment, all(Kept())), map[string]string{"a": "def"})
	want(t, "all kept", d.CutBy(d.Moment(), all(Kept())), map[string]string{"a": "ghi"})
	if len(d.history.events) != 1 || len(d.history.start.inodes) != 1 {
		t.Errorf("it remembers %d events and %d files", len(d.history.events), len(d.history.start.inodes))
	}
	for _, moment := range []int{-1, moment - 1, d.Moment() + 1} {
		if message := fake.fatal(func() { d.KillAt(moment) }); !strings.Contains(message, "there is no moment") {
			t.Errorf("the moment %d: got %q", moment, message)
		}
	}
}

// fakeTB is a test that fails without failing.
type fakeTB struct {
	testing.TB

	message string
}

func (f *fakeTB) Helper() {}

func (f *fakeTB) Fatalf(format string, args ...any) {
	f.message = fmt.Sprintf(format, args...)
	panic(f)
}

// fatal returns what do has failed with, or "".
func (f *fakeTB) fatal(do func()) (message string) {
	defer func() {
		if p := recover(); p != nil && p != any(f) {
			panic(p)
		}
		message = f.message
	}()
	f.message = ""
	do()
	return ""
}
