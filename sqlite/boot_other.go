//go:build !linux && !darwin

package sqlite

// systemBootName knows none here: a time would be another one when the clock is set.
func systemBootName() (name string, known bool) { return "", false }
