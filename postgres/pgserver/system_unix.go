//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package pgserver

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// An account is who runs the server.
type account struct {
	name     string // for messages
	other    bool   // than that of this process, which is root then
	uid, gid uint32 // of another
}

// accountFor chooses the account for a server on a folder, which may be none: who has the folder, if that is not root, who is asked
// for, postgres, and nobody.
func accountFor(c Config) (account, error) {
	if os.Geteuid() != 0 {
		if c.User != "" {
			return account{}, errors.New("pgserver: only root can run a server as another user; leave User empty")
		}
		return account{name: "that runs this program"}, nil
	}
	names := []string{"postgres", "nobody"}
	if owner, found := ownerOf(c.Dir); found && owner != 0 && c.User == "" {
		u, err := user.LookupId(strconv.FormatUint(uint64(owner), 10))
		if err != nil {
			return account{}, fmt.Errorf("pgserver: owner of %s: %w", c.Dir, err)
		}
		names = []string{u.Username}
	}
	if c.User != "" {
		names = []string{c.User}
	}
	for _, name := range names {
		u, err := user.Lookup(name)
		if unknown := user.UnknownUserError(""); errors.As(err, &unknown) {
			continue
		}
		if err != nil {
			return account{}, fmt.Errorf("pgserver: %w", err)
		}
		return accountOf(u)
	}
	return account{}, fmt.Errorf("pgserver: PostgreSQL does not run as root, and of the users %q there is none; name one in User", names)
}

func accountOf(u *user.User) (account, error) {
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return account{}, fmt.Errorf("pgserver: user %s: %w", u.Username, err)
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return account{}, fmt.Errorf("pgserver: user %s: %w", u.Username, err)
	}
	if uid == 0 {
		return account{}, errors.New("pgserver: PostgreSQL does not run as root; name another in User")
	}
	return account{name: u.Username, uid: uint32(uid), gid: uint32(gid), other: true}, nil
}

// attributes let a process run as the account, and in none of the groups that root is in.
func (a account) attributes() *syscall.SysProcAttr {
	if !a.other {
		return &syscall.SysProcAttr{}
	}
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: a.uid, Gid: a.gid}}
}

// give makes the account the owner of a file or folder.
func (a account) give(path string) error {
	if !a.other {
		return nil
	}
	if err := os.Lchown(path, int(a.uid), int(a.gid)); err != nil {
		return fmt.Errorf("pgserver: %w", err)
	}
	return nil
}

// mayEnter checks that the account gets to a folder. A program that is root gets everywhere, and would learn from an obscure
// line in a log that the server does not.
func (a account) mayEnter(path string) error {
	if !a.other {
		return nil
	}
	for parent := ""; parent != path; parent, path = path, filepath.Dir(path) {
		may, err := a.may(0o1, path)
		if err != nil {
			return err
		}
		if !may {
			return fmt.Errorf("pgserver: the folder %s is closed to the user %s, who runs the server because this program is root; "+
				"choose a folder elsewhere, such as in /var/tmp", path, a.name)
		}
	}
	return nil
}

// mayFill checks that the account can make a folder in another.
func (a account) mayFill(path string) error {
	if err := a.mayEnter(path); err != nil || !a.other {
		return err
	}
	may, err := a.may(0o2, path)
	if err == nil && !may {
		return fmt.Errorf("pgserver: the user %s, who runs the server because this program is root, cannot write to the folder %s",
			a.name, path)
	}
	return err
}

// may tells whether the account has a permission: 4 is to read, 2 to write, 1 to enter.
func (a account) may(permission fs.FileMode, path string) (bool, error) {
	info, err := os.Stat(path)
	if err != nil {
		return false, fmt.Errorf("pgserver: %w", err)
	}
	switch uid, gid, _ := owners(info); {
	case uid == a.uid:
		permission <<= 6
	case gid == a.gid:
		permission <<= 3
	}
	return info.Mode()&permission != 0, nil
}

func ownerOf(path string) (uid uint32, found bool) {
	info, err := os.Stat(path)
	if err != nil {
		return 0, false // also when there is no path
	}
	uid, _, found = owners(info)
	return uid, found
}

func owners(info fs.FileInfo) (uid, gid uint32, found bool) {
	status, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, 0, false
	}
	return status.Uid, status.Gid, true
}

// lockNow locks a file, or tells that another process has it locked. The lock belongs to the open file: it ends when all processes
// that have it, also as an inherited descriptor, have closed it or have ended.
func lockNow(file *os.File) (bool, error) {
	for {
		err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		switch {
		case err == nil:
			return true, nil
		case errors.Is(err, syscall.EINTR):
		case errors.Is(err, syscall.EWOULDBLOCK):
			return false, nil
		default:
			return false, fmt.Errorf("pgserver: lock %s: %w", file.Name(), err)
		}
	}
}
