// Package measure runs contenders on the same work, in turn, and says how they compare.
//
// A number of nanoseconds means little on another machine, or on this one in an hour. What holds is a ratio between two
// contenders of one run: so they take turns round by round, each ratio is one of a round, and the median of these counts.
package measure
