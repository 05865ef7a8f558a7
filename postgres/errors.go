package postgres

import (
	"context"
	"errors"
	"io"
	"net"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// The errors of a database, beside those of the roles. Test for them with errors.Is.
var (
	// ErrUnavailable: the database cannot be reached, is starting or shutting down, or the connection was lost. Whether the call was
	// done is unknown; with the same message IDs it can be made again.
	ErrUnavailable = errors.New("postgres: the database is not available")
	// ErrBusy: the call has waited for locks, or has run, for longer than the database allows, or was undone because of others who did the
	// same at the time, again and again. Nothing was done.
	ErrBusy = errors.New("postgres: the database is busy")
	// ErrDiskFull: the database has no room. Nothing was done.
	ErrDiskFull = errors.New("postgres: the disk is full")
	// ErrReadOnly: the database takes no writes, as a replica does not. Nothing was done.
	ErrReadOnly = errors.New("postgres: the database is read-only")
	// ErrForbidden: the user may not do what the store needs. Nothing was done.
	ErrForbidden = errors.New("postgres: the user may not do that")
	// ErrForeign: the schema is there, and is not one of the toolkit's. It was not touched.
	ErrForeign = errors.New("postgres: the schema is not an event store")
	// ErrNewer: the schema was made by a newer version of the toolkit. It was not touched.
	ErrNewer = errors.New("postgres: the schema is newer")
	// ErrOutdated: the schema is older than this version of the toolkit, and was not to be changed.
	ErrOutdated = errors.New("postgres: the schema is out of date")
)

// engineError is an error of PostgreSQL or of the way there, as opposed to the verdict of a role about a call.
type engineError struct {
	kind error // one of ours, or nil
	err  error
}

func (e *engineError) Error() string {
	if e.kind == nil {
		return e.err.Error()
	}
	return e.kind.Error() + ": " + e.err.Error()
}

func (e *engineError) Unwrap() []error {
	if e.kind == nil {
		return []error{e.err}
	}
	return []error{e.kind, e.err}
}

// fault makes an error of the driver one of ours. The end of the caller's context remains what it is.
func fault(err error) error {
	if err == nil || isFault(err) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) ||
		errors.Is(err, pgx.ErrNoRows) {
		return err
	}
	return &engineError{kind: kindOf(err), err: err}
}

func isFault(err error) bool {
	_, ok := errors.AsType[*engineError](err)
	return ok
}

// kindOf returns which of our errors an error of the driver is; see appendix A of PostgreSQL's manual for the codes.
func kindOf(err error) error {
	server, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		if _, dial := errors.AsType[*pgconn.ConnectError](err); dial || isConnectionLoss(err) {
			return ErrUnavailable
		}
		return nil
	}
	switch server.Code {
	case "55P03", "57014", "40001", "40P01": // lock_not_available; query_canceled, as by statement_timeout; see mayTryAgain
		return ErrBusy
	case "53100": // disk_full
		return ErrDiskFull
	case "25006": // read_only_sql_transaction
		return ErrReadOnly
	case "42501": // insufficient_privilege
		return ErrForbidden
	case "57P01", "57P02", "57P03", "57P05", "53300", // shutdowns, starting up, idle timeout, too many connections
		"25P03", "25P04": // idle_in_transaction_session_timeout, transaction_timeout
		return ErrUnavailable
	}
	if server.Code[:2] == "08" { // connection exceptions
		return ErrUnavailable
	}
	return nil
}

// isConnectionLoss tells whether an error is that of a connection that has ended.
func isConnectionLoss(err error) bool {
	_, network := errors.AsType[net.Error](err)
	return network || errors.Is(err, pgconn.ErrConnClosed) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, net.ErrClosed)
}

// mayTryAgain tells whether PostgreSQL has undone a transaction because of others, so that it succeeds when it is done again.
func mayTryAgain(err error) bool {
	server, ok := errors.AsType[*pgconn.PgError](err)
	return ok && (server.Code == "40001" || server.Code == "40P01") // serialization_failure, deadlock_detected
}
