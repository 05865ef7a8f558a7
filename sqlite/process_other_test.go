//go:build !unix

package sqlite_test

// storeProcess does nothing: there are no such processes here.
func storeProcess() {}
