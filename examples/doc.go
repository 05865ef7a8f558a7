// Package examples is the home of runnable programs that use the toolkit, one directory each, with a test that starts the
// program and talks to it as a user would.
package examples
