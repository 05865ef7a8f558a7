// Package pgserver runs private PostgreSQL servers: for the tests of programs that need one, and for programs that bring their own.
//
// A test needs one line. It gets an empty database, which goes when the test has ended:
//
//	func TestOrders(t *testing.T) {
//		conn, err := pgx.Connect(t.Context(), pgserver.Database(t))
//
// The databases of one test binary are on one server, which is started when the first of them is asked for; that takes less than
// a second. With ES_TEST_POSTGRES_URL in the environment they are on the server that it names. [ForTest] starts a server of the
// test's own, which it can stop, freeze, kill and start again. [Start] is for everything else.
//
// The programs of PostgreSQL have to be there, in a package of the system or elsewhere: [Installed] says where they are looked
// for, and [Config].Install has them installed.
//
// # What is promised
//
// A server cannot be reached from elsewhere: it listens on a socket in a folder that only its account can enter, and on no
// network.
//
// A server ends with the program that started it, whichever way that ends, kill -9 included, and what it keeps in a temporary
// folder goes with it. A guard sees to that: a shell, which is the parent of the server, and whose standard input is a pipe that
// only the program has the other end of. It is a process of its own because nothing inside of the program runs after kill -9, and a
// pipe because Linux alone can send a signal when a parent ends, and sends it already when the parent's thread does.
//
// A server has no goroutine and no connection of its own in the program, so checks for leaks need not know of it.
//
// PostgreSQL refuses to run as root. When the program is root, the server runs as the account postgres, or nobody.
//
// It runs on Linux, macOS and the BSDs; elsewhere [Start] returns [errors.ErrUnsupported].
package pgserver
