package postgres

import (
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
)

// unbegun are the rows of a transaction that could not begin: there are none, and an error says why.
type unbegun struct{ err error }

var _ pgx.Rows = unbegun{}

func (unbegun) Close()                                       {}
func (u unbegun) Err() error                                 { return u.err }
func (unbegun) CommandTag() pgconn.CommandTag                { return pgconn.CommandTag{} }
func (unbegun) FieldDescriptions() []pgconn.FieldDescription { return nil }
func (unbegun) Next() bool                                   { return false }
func (u unbegun) Scan(...any) error                          { return u.err }
func (u unbegun) Values() ([]any, error)                     { return nil, u.err }
func (unbegun) RawValues() [][]byte                          { return nil }
func (unbegun) Conn() *pgx.Conn                              { return nil }
func (unbegun) TypeMap() *pgtype.Map                         { return nil }

// unbegunBatch are the results of a batch of one that could not.
type unbegunBatch struct{ err error }

var _ pgx.BatchResults = unbegunBatch{}

func (u unbegunBatch) Exec() (pgconn.CommandTag, error) { return pgconn.CommandTag{}, u.err }
func (u unbegunBatch) Query() (pgx.Rows, error)         { return unbegun(u), u.err }
func (u unbegunBatch) QueryRow() pgx.Row                { return unbegun(u) }
func (u unbegunBatch) Close() error                     { return u.err }
func (unbegunBatch) Tx() pgx.Tx                         { return nil }
