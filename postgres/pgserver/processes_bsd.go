//go:build darwin || dragonfly || freebsd || netbsd || openbsd

package pgserver

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
)

// processes returns those of the system.
func processes() ([]process, error) {
	out, err := exec.CommandContext(context.Background(), "ps", "-A", "-o", "pid=", "-o", "ppid=", "-o", "state=").Output()
	if err != nil {
		return nil, fmt.Errorf("pgserver: ps: %w", err)
	}
	var all []process
	for line := range strings.Lines(string(out)) {
		var p process
		var state string
		if _, err := fmt.Sscan(line, &p.id, &p.parent, &state); err != nil {
			return nil, fmt.Errorf("pgserver: ps tells %q: %w", line, err)
		}
		p.state = state[0]
		all = append(all, p)
	}
	return all, nil
}
