package workloads

import (
	"errors"
	"fmt"
	"sort"

	"github.com/eventsourcing-go/eventsourcing/bench/internal/measure"
)

// onSQLiteFile is an eventFile that is a file of SQLite.
type onSQLiteFile struct{}

func (onSQLiteFile) check(path string, total uint64, shares []share) error {
	f, err := openBare(path)
	if err != nil {
		return err
	}
	err = checkEvents(f.each, total, shares)
	if err := errors.Join(err, f.conn.Close(), discard(path)); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// checkEvents looks at all the events, which are shown to see in order.
func checkEvents(each func(see func(stream string, version int64, data []byte) error) error, total uint64, shares []share) error {
	check := newFileCheck(shares)
	err := each(check.event)
	if err == nil && check.events != total {
		err = fmt.Errorf("there are %d events where %d were acknowledged", check.events, total)
	}
	if faults := check.close(); err == nil && faults.Any() {
		err = fmt.Errorf("of %d events: %s", total, faults)
	}
	return err
}

// fileCheck sees all the events of a file, in order.
type fileCheck struct {
	shares   []share // in the order of their numbers
	ledgers  []*measure.Ledger
	versions map[string]int64
	events   uint64
}

func newFileCheck(shares []share) *fileCheck {
	c := &fileCheck{shares: shares, versions: map[string]int64{}}
	for _, s := range shares {
		c.ledgers = append(c.ledgers, measure.NewLedger(s.count, 1))
	}
	return c
}

func (c *fileCheck) event(stream string, version int64, data []byte) error {
	c.events++
	c.versions[stream]++
	if due := c.versions[stream]; version != due {
		return fmt.Errorf("stream %q has version %d where %d was due", stream, version, due)
	}
	n, err := stampedNumber(data)
	if err != nil {
		return err
	}
	i := sort.Search(len(c.shares), func(i int) bool { return c.shares[i].first > n }) - 1
	if i >= 0 { // otherwise it was there before
		c.ledgers[i].Take(n - c.shares[i].first)
	}
	return nil
}

func (c *fileCheck) close() measure.Faults {
	var faults measure.Faults
	for _, ledger := range c.ledgers {
		faults = faults.Plus(ledger.Close())
	}
	return faults
}
