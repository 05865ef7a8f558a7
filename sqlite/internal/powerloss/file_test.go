package powerloss

import (
	"testing"

	lib "modernc.org/sqlite/lib"
	"zombiezen.com/go/sqlite"
)

func TestAShortReadIsFilledWithZeros(t *testing.T) {
	t.Parallel()
	h := open(t, NewDisk(t, Config{}), "a")
	write(t, h, "abc", 0)
	for offset, text := range []string{"abc\x00", "bc\x00\x00", "c\x00\x00\x00", "\x00\x00\x00\x00", "\x00\x00\x00\x00"} {
		buf := []byte("----")
		if code := h.read(buf, int64(offset)); code != sqlite.ResultIOErrShortRead || string(buf) != text {
			t.Errorf("at %d: got %v and %q, want %q", offset, code, buf, text)
		}
	}
}

func TestAFileIsOpenedAsItsFlagsSay(t *testing.T) {
	t.Parallel()
	d := NewDisk(t, Config{})
	write(t, open(t, d, "a"), "abc", 0)
	const create = lib.SQLITE_OPEN_READWRITE | lib.SQLITE_OPEN_CREATE
	if _, _, code := d.openFile("a", create|lib.SQLITE_OPEN_EXCLUSIVE); code != sqlite.ResultCantOpen {
		t.Errorf("a file that must not be there: %v", code)
	}
	if _, _, code := d.openFile("b", lib.SQLITE_OPEN_READWRITE); code != sqlite.ResultCantOpen {
		t.Errorf("a file that must be there: %v", code)
	}
	h, flags, code := d.openFile("a", lib.SQLITE_OPEN_READONLY)
	wantOK(t, code)
	if flags != lib.SQLITE_OPEN_READONLY || h.write([]byte("x"), 0) == sqlite.ResultOK || h.truncate(0) == sqlite.ResultOK {
		t.Errorf("a file for reading was written to, with the flags %#x", flags)
	}
	h.close(nil)
	h, _, code = d.openFile("c", create|lib.SQLITE_OPEN_EXCLUSIVE|lib.SQLITE_OPEN_DELETEONCLOSE)
	wantOK(t, code)
	write(t, h, "abc", 0)
	want(t, "with a file that goes when it is closed", d, map[string]string{"a": "abc"})
	h.close(nil)
	if code := d.deleteFile("c", 0); code != sqlite.ResultIOErrDeleteNoEnt {
		t.Errorf("to delete a file that is not there: %v", code)
	}
}

func TestAFileThatIsPutThereStaysThere(t *testing.T) {
	t.Parallel()
	d := NewDisk(t, Config{})
	wantOK(t, open(t, d, "a").sync())
	wantOK(t, d.deleteFile("a", 0))
	d.Put("a", []byte("put"))
	want(t, "put", d.CutBy(d.Moment(), all(Dropped())), map[string]string{"a": "put"})
	wantOK(t, open(t, d, "b").sync()) // and the folder, from which another a was deleted
	want(t, "with the folder synced", d.CutBy(d.Moment(), all(Dropped())), map[string]string{"a": "put", "b": ""})
}

func TestWhatIsDeletedOrCutMakesRoom(t *testing.T) {
	t.Parallel()
	d := NewDisk(t, Config{})
	d.Fill(10)
	first, second := open(t, d, "a"), open(t, d, "b")
	write(t, first, "12345678", 0)
	if code := second.write([]byte("1234"), 0); code != sqlite.ResultFull {
		t.Errorf("a write without room: %v", code)
	}
	want(t, "full", d, map[string]string{"a": "12345678", "b": "12"})
	write(t, first, "overwritten"[:8], 0)
	if code := first.truncate(9); code != sqlite.ResultIOErrTruncate {
		t.Errorf("a file was made larger without room: %v", code)
	}
	wantOK(t, first.truncate(5))
	write(t, second, "12345", 0)
	wantOK(t, d.deleteFile("a", 0))
	if code := second.write([]byte("6"), 5); code != sqlite.ResultFull {
		t.Errorf("a deleted file that is open made room: %v", code)
	}
	first.close(nil)
	write(t, second, "67890", 5)
	if code := second.write([]byte("1"), 10); code != sqlite.ResultFull {
		t.Errorf("a write without room: %v", code)
	}
}
