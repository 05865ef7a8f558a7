package pgserver

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
)

// processes returns those of the system, as they are in proc(5). The program ps is not everywhere.
func processes() ([]process, error) {
	files, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil, fmt.Errorf("pgserver: %w", err)
	}
	var all []process
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended
		}
		// The name of the program stands in parentheses, and may have any character in it.
		id, _, _ := bytes.Cut(text, []byte(" "))
		rest := bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:])
		if len(rest) < 2 {
			return nil, fmt.Errorf("pgserver: %s is not as proc(5) says", file)
		}
		var p process
		p.state = rest[0][0]
		if p.id, err = strconv.Atoi(string(id)); err != nil {
			return nil, fmt.Errorf("pgserver: %s: %w", file, err)
		}
		if p.parent, err = strconv.Atoi(string(rest[1])); err != nil {
			return nil, fmt.Errorf("pgserver: %s: %w", file, err)
		}
		all = append(all, p)
	}
	return all, nil
}
