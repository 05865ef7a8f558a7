//go:build !linux && !darwin && !dragonfly && !freebsd

package sqlite

// networkFileSystem knows no file systems here.
func networkFileSystem(string) (name string, known bool) { return "", false }
