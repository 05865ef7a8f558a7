// Package sqlite plays every role of the toolkit in one SQLite file: the embedded default, for many goroutines and several
// processes.
//
// What was acknowledged survives kill -9 and, with [Full], loss of power. Writes that wait at the same moment share one
// transaction and one sync, each with an outcome of its own; readers never block the writer, and the writer never blocks readers.
// An append costs the same on ten million events as on none.
//
//	db, err := sqlite.Open(sqlite.Config{Path: "items.db"})
//
// Beside the roles there is [DB.Update], which does all of it, and a program's own SQL, in one transaction. [Check] verifies a file,
// [DB.Backup] copies one that is in use, and [Fork] and [Reindex] are for a file that was restored or damaged.
//
// Tables that begin with es_ are the toolkit's; a program may have others in the same file. While a process has the file open,
// nothing in it may open the file, or those beside it, other than through SQLite: when any descriptor of a file is closed, the
// process loses its locks on it (see "How To Corrupt An SQLite Database File", 2.2, on sqlite.org). [DB.Backup] copies it.
package sqlite
