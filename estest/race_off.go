//go:build !race

package estest

// slowdown is the factor by which measured times are allowed to be longer than what is promised: tests run on machines that do
// other things at the same time.
const slowdown = 20
