package eshttp_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/eshttp"
)

// TestABodyThatDoesNotComeDoesNotOutliveTheComponents stops a program while a handler reads a body that does not come, which the
// end of its context does not wake: the end of its connection does, and the components wait for that too.
func TestABodyThatDoesNotComeDoesNotOutliveTheComponents(t *testing.T) {
	t.Parallel()
	j := &journal{}
	reading := make(chan struct{})
	p := run(t, eshttp.Config{
		Grace: 100 * time.Millisecond, Components: []es.Component{newComponent("a", j)},
		Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			close(reading)
			_, err := io.ReadAll(r.Body)
			<-time.After(10 * time.Millisecond) // it tidies up
			j.add("handler: " + map[bool]string{true: "broken off", false: "a whole body"}[err != nil])
		}),
	})
	connection, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", strings.TrimPrefix(p.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer connection.Close()
	if _, err := io.WriteString(connection, "POST / HTTP/1.1\r\nHost: slow\r\nContent-Length: 10\r\n\r\nhalf"); err != nil {
		t.Fatal(err)
	}
	<-reading
	p.cancel()
	if err := p.ended(); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Run returned %v", err)
	}
	j.want(t, "start a", "handler: broken off", "stop a")
}

// TestAConnectionWithoutARequestIsNoFailure stops a program while a connection is open on which nothing was asked, as browsers and
// balancers open them in advance.
func TestAConnectionWithoutARequestIsNoFailure(t *testing.T) {
	t.Parallel()
	p := run(t, eshttp.Config{Handler: http.NotFoundHandler(), Grace: 200 * time.Millisecond})
	connection, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", strings.TrimPrefix(p.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer connection.Close()
	p.get("/") // by then the other one was accepted
	p.cancel()
	if err := p.ended(); err != nil {
		t.Errorf("Run returned %v", err)
	}
	if _, err := connection.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("the connection was not closed: %v", err)
	}
}
