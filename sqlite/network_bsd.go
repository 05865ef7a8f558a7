//go:build darwin || dragonfly || freebsd

package sqlite

import "syscall"

// mountLocal is MNT_LOCAL of sys/mount.h: the file system is stored on this machine.
const mountLocal = 0x1000

// networkFileSystem tells whether a path is on a file system that is not stored on this machine: the system says so of each mount.
func networkFileSystem(path string) (name string, known bool) {
	var stat syscall.Statfs_t
	if syscall.Statfs(path, &stat) != nil || stat.Flags&mountLocal != 0 {
		return "", false
	}
	for _, c := range stat.Fstypename {
		if c == 0 {
			break
		}
		name += string(rune(c))
	}
	return name, true
}
