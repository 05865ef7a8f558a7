package sqlite_test

import (
	"bytes"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"

	"github.com/eventsourcing-go/eventsourcing/sqlite"
)

// asNobody runs a function with the rights of somebody to whom no file belongs, as far as files are concerned. They are those of a thread,
// which ends with it.
func asNobody(do func() error) error {
	done := make(chan error)
	go func() {
		if os.Geteuid() == 0 { // otherwise there are no more rights than others have
			runtime.LockOSThread() // and it is not unlocked, so that the thread is not used again
			const nobody = 65534
			if _, _, errno := syscall.RawSyscall(syscall.SYS_SETFSUID, nobody, 0, 0); errno != 0 {
				done <- errno
				return
			}
		}
		done <- do()
	}()
	return <-done
}

func TestAReadOnlyFileOrFolderIsToldAsSuch(t *testing.T) {
	t.Parallel()
	path := fullFile(t)
	folder := filepath.Dir(path)
	before := readFile(t, path)
	wantRefused := func(what string, want error) {
		t.Helper()
		err := asNobody(func() error {
			_, err := sqlite.Open(sqlite.Config{Path: path})
			return err
		})
		wantError(t, what, err, want)
		if !bytes.Equal(readFile(t, path), before) {
			t.Errorf("%s: the file was changed", what)
		}
	}
	must(t, os.Chmod(filepath.Dir(folder), 0o755)) // made for the test, for nobody else to look into
	must(t, os.Chmod(folder, 0o777))
	for _, end := range []string{"-turn", "-next", "-index"} {
		must(t, os.Chmod(path+end, 0o666))
	}
	must(t, os.Chmod(path, 0o444))
	wantRefused("a read-only file", sqlite.ErrReadOnly)
	must(t, os.Chmod(path, 0o666))
	must(t, os.Chmod(folder, 0o555))
	wantRefused("a read-only folder", sqlite.ErrReadOnly)
	must(t, os.Remove(path+"-turn"))
	wantRefused("a read-only folder without the files beside the database", sqlite.ErrReadOnly)
	must(t, os.Chmod(folder, 0o777))
	must(t, os.Chmod(path, 0o600))
	wantRefused("a file that may not be read", sqlite.ErrIO)
	wantSound(t, sqlite.Config{Path: path})
}
