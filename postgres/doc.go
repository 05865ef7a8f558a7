// Package postgres plays every role of the toolkit in a PostgreSQL database: for many processes on many machines.
//
// Everything is in a schema of its own, so that several installations and the tables of a program may share a database. Tables that
// belong to a namespace end in its number.
package postgres
