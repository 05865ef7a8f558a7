package postgres

import (
	"context"
	"math"

	"github.com/jackc/pgx/v5"
)

const (
	// A reader fetches few events at first and then more: a short history is read at once, and a long one in pages that are worth a
	// round trip each. The last size, and the bytes, bound what is in memory.
	firstPageEvents = 128
	lastPageEvents  = 1024
	pageBytes       = 1 << 20
	// fewPositions are so few that they are gone through one by one, rather than looking up what is selected.
	fewPositions = 256
	// dense is which share of the events must be selected, so that going through them one by one is quicker than looking them up.
	dense = 0.5
)

// span is a part of what is still to be read: positions, or versions of a stream, from the first to the last.
type span struct{ first, last int64 }

// pageStatement is a statement that reads a page.
type pageStatement struct {
	query     string
	arguments []any
	span      span // of what it goes through
}

// fetchPage reads the next page from the database.
func (r *logReader) fetchPage(ctx context.Context) error {
	if err := r.store.db.handle.begin(ctx); err != nil {
		return err
	}
	defer r.store.db.handle.leave()
	size := r.nextSize()
	p := r.statement(size)
	bytes := 0
	err := r.store.db.again(ctx, func() (err error) {
		bytes, err = r.readPage(ctx, p)
		return err
	})
	if err != nil {
		return err
	}
	begin, end := p.span.first, p.span.last
	if r.query.Reverse {
		begin, end = end, begin
	}
	n := len(r.page)
	if n > 0 {
		r.weight = max(1, bytes/n)
	}
	if n == size || bytes >= pageBytes { // there may be more up to the end
		end = r.place(r.page[n-1])
	}
	if begin == math.MaxInt64 && n > 0 { // nobody knows where the log begins, seen from its end
		begin = r.place(r.page[0])
	}
	r.density = max(float64(n), 1.0/8) / max(1, math.Abs(float64(end-begin)))
	r.pass(end)
	return nil
}

// nextSize returns how many events the next page has at most.
func (r *logReader) nextSize() int {
	r.size = min(max(4*r.size, firstPageEvents), lastPageEvents)
	if r.weight > 0 {
		r.size = max(1, min(r.size, pageBytes/r.weight))
	}
	return min(r.size, r.left())
}

// statement returns the statement that reads the next page.
func (r *logReader) statement(size int) pageStatement {
	sql, selected := &r.store.reads.forward, &r.selected
	if r.query.Reverse {
		sql = &r.store.reads.backward
	}
	whole := span{r.low, r.high}
	of := func(s span, query string, arguments ...any) pageStatement {
		return pageStatement{query, append([]any{s.first, s.last, size}, arguments...), s}
	}
	switch tag, only := selected.onlyTag(); {
	case r.query.Stream != "" && !selected.selective():
		return of(whole, sql.stream, r.query.Stream)
	case r.query.Stream != "":
		return of(whole, sql.streamMatching, selected.encoded, selected.category, r.query.Stream)
	case !selected.selective():
		return of(whole, sql.all)
	case r.high-r.low < fewPositions:
		return of(whole, sql.allMatching, selected.encoded, selected.category)
	case len(selected.criteria) == 0:
		return of(whole, sql.category, *selected.category)
	case r.density >= dense:
		return of(r.near(size), sql.allMatching, selected.encoded, selected.category)
	case only:
		return of(whole, sql.tag, tag)
	}
	return of(r.near(size), sql.criteria, selected.encoded, selected.category)
}

// near returns the part of what is to be read that should have so many events, and some more. It is the whole at first.
func (r *logReader) near(size int) span {
	whole := span{r.low, r.high}
	if r.density == 0 {
		return whole
	}
	length := max(int64(min(1.5*float64(size)/r.density, 1<<62)), fewPositions)
	switch {
	case length > r.high-r.low:
		return whole
	case r.query.Reverse:
		return span{r.high - length + 1, r.high}
	}
	return span{r.low, r.low + length - 1}
}

// readPage reads a page in one round trip, and returns how many bytes it has. Those of its events that are beyond what a page may have
// are left out.
func (r *logReader) readPage(ctx context.Context, p pageStatement) (bytes int, err error) {
	var b pgx.Batch
	b.Queue(planned)
	b.Queue(p.query, p.arguments...)
	results := r.store.db.pool.SendBatch(ctx, &b)
	defer func() {
		if failed := results.Close(); err == nil {
			err = failed
		}
	}()
	if _, err := results.Exec(); err != nil {
		return 0, err
	}
	rows, err := results.Query()
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	d := r.store.reads.decoder()
	defer r.store.reads.release(d)
	r.page, bytes, err = d.events(rows, r.page[:0])
	return bytes, err
}
