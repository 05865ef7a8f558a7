// Package tests is the home of the tests that need a library from outside: property tests, linearizability checks and leak
// detection. They have a module of their own so that the toolkit itself does not carry their requirements.
package tests
