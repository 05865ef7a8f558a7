//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package pgserver

import "fmt"

// ParentOf is the parent of a process.
func ParentOf(id int) (int, error) {
	all, err := processes()
	if err != nil {
		return 0, err
	}
	for _, p := range all {
		if p.id == id {
			return p.parent, nil
		}
	}
	return 0, fmt.Errorf("no process %d", id)
}
