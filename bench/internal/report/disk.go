package report

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// lookAtDisk says what the disk of a directory is: its file system, and how often a second it syncs 4 KiB that are written to the end of
// a file, which is what a commit waits for. A disk that only says so, or a file system in memory, is known by the figure.
func lookAtDisk(dir string) (string, error) {
	const lasting = 300 * time.Millisecond
	file, err := os.Create(filepath.Join(dir, "syncs"))
	if err != nil {
		return "", err
	}
	syncs, page := 0, make([]byte, 4096)
	began := time.Now()
	for time.Since(began) < lasting && err == nil {
		if _, err = file.Write(page); err == nil {
			err = file.Sync()
		}
		syncs++
	}
	took := time.Since(began)
	if err := errors.Join(err, file.Close(), os.Remove(file.Name())); err != nil {
		return "", err
	}
	text := thousands(int64(float64(syncs)/took.Seconds())) + " syncs of 4 KiB at the end of a file a second"
	if system := fileSystem("/proc/mounts", dir); system != "" {
		text = system + ", " + text
	}
	return text, nil
}

// fileSystem finds the type of the file system that a directory is on, as Linux has it in /proc/mounts; empty elsewhere.
func fileSystem(mounts, dir string) string {
	text, err := os.ReadFile(mounts)
	if err != nil {
		return ""
	}
	dir, err = filepath.Abs(dir)
	if err != nil {
		return ""
	}
	longest, system := -1, ""
	for line := range bytes.Lines(text) {
		fields := strings.Fields(string(line)) // device, place, type, options
		if len(fields) < 3 {
			continue
		}
		place := strings.TrimSuffix(fields[1], "/")
		if len(place) >= longest && (dir == place || strings.HasPrefix(dir, place+"/")) {
			longest, system = len(place), fields[2]
		}
	}
	return system
}
