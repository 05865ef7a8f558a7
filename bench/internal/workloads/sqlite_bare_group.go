package workloads

import (
	"context"
	"errors"
	"runtime"
	"time"

	lite "zombiezen.com/go/sqlite"

	es "github.com/eventsourcing-go/eventsourcing"
)

// bareGroup is a bare file with a goroutine that collects the appends that wait, and commits them in one transaction.
type bareGroup struct {
	*bareFile
	requests chan *bareRequest
	ended    chan struct{}
	version  *lite.Stmt // finds the version of a stream; nil when nobody checks it
}

type bareRequest struct {
	append es.Append
	done   chan bareReply
}

type bareReply struct {
	place es.Place
	err   error
}

const bareBatch = 1024 // appends in a transaction, at most

// newBareGroup takes the statement that finds the version of a stream, or nil.
func newBareGroup(f *bareFile, version *lite.Stmt) *bareGroup {
	g := &bareGroup{bareFile: f, requests: make(chan *bareRequest, bareBatch), ended: make(chan struct{}), version: version}
	go g.loop()
	return g
}

func (g *bareGroup) append(_ context.Context, a es.Append) (es.Place, error) {
	r := &bareRequest{append: a, done: make(chan bareReply, 1)}
	g.requests <- r
	reply := <-r.done
	return reply.place, reply.err
}

func (g *bareGroup) loop() {
	defer close(g.ended)
	var batch []*bareRequest
	var replies []bareReply
	for first := range g.requests {
		batch = g.collect(append(batch[:0], first), len(batch))
		replies = replies[:0]
		err := do(g.begin)
		now := time.Now().UnixMicro()
		for _, r := range batch {
			var reply bareReply
			if err == nil {
				reply.place, reply.err = g.one(r.append, now)
			}
			replies = append(replies, reply)
		}
		if err == nil {
			err = do(g.commit)
		}
		for i, r := range batch {
			replies[i].err = errors.Join(replies[i].err, err)
			r.done <- replies[i]
		}
	}
}

// collect adds the appends that wait. Those whose appends were in the batch before are on their way back; they are waited for as
// long as more of them come, because otherwise the first of them would have a sync for himself.
func (g *bareGroup) collect(batch []*bareRequest, before int) []*bareRequest {
	for idle := 0; len(batch) < bareBatch; {
		select {
		case r, open := <-g.requests:
			if !open {
				return batch
			}
			batch = append(batch, r)
			idle = 0
		default:
			if idle++; idle > 16 || len(batch) >= before {
				return batch
			}
			runtime.Gosched()
		}
	}
	return batch
}

var errBareConflict = errors.New("the stream is at another version")

func (g *bareGroup) one(a es.Append, now int64) (es.Place, error) {
	to := a.Streams[0]
	expected := max(int64(to.Expect), 0)
	if g.version != nil {
		g.version.BindText(1, to.Stream)
		if _, err := g.version.Step(); err != nil {
			return es.Place{}, err
		}
		found := g.version.ColumnInt64(0)
		if err := g.version.Reset(); err != nil {
			return es.Place{}, err
		}
		if found != expected {
			return es.Place{}, errBareConflict
		}
	}
	err := g.add(to.Events[0], expected+1, now)
	return es.Place{Version: expected + 1, Position: g.conn.LastInsertRowID()}, err
}

func (g *bareGroup) close() (string, error) {
	close(g.requests)
	<-g.ended
	return g.bareFile.close()
}
