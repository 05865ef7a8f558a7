// Package bench compares this toolkit with its peers and with bare loops, on the same work.
package bench
