package powerloss

import (
	"slices"
	"strings"
	"sync"
)

// Gate stops those who are about to do something to a file. See [Disk.Hold].
type Gate struct {
	disk    *Disk
	op      Op
	file    string
	arrived chan struct{}
	opened  chan struct{}
	once    sync.Once
}

// Hold stops everybody who is about to do something to a file whose name ends with file, before it is done, until the gate is
// opened. Tests use it to know that a sync is under way: what happens meanwhile has to wait for the next one. Whoever stands at a
// gate holds the locks of SQLite that he has. The gate is opened at the end of the test, if not before.
func (d *Disk) Hold(op Op, file string) *Gate {
	g := &Gate{disk: d, op: op, file: file, arrived: make(chan struct{}, 1), opened: make(chan struct{})}
	d.mu.Lock()
	d.gates = append(d.gates, g)
	d.mu.Unlock()
	d.tb.Cleanup(g.Open)
	return g
}

// Arrived has a value when somebody has come to the gate since the last time.
func (g *Gate) Arrived() <-chan struct{} { return g.arrived }

// Open lets everybody pass, from now on. It may be called several times.
func (g *Gate) Open() {
	g.once.Do(func() {
		g.disk.mu.Lock()
		defer g.disk.mu.Unlock()
		g.disk.gates = slices.DeleteFunc(g.disk.gates, func(other *Gate) bool { return other == g })
		close(g.opened)
	})
}

// pass waits until no gate stands in the way. The caller does not hold the lock of the disk.
func (d *Disk) pass(op Op, name string) {
	for {
		g := d.gate(op, name)
		if g == nil {
			return
		}
		select {
		case g.arrived <- struct{}{}:
		default:
		}
		<-g.opened
	}
}

func (d *Disk) gate(op Op, name string) *Gate {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, g := range d.gates {
		if g.op == op && name != "" && strings.HasSuffix(name, g.file) {
			return g
		}
	}
	return nil
}
