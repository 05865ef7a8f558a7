package eshttp_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/eventsourcing-go/eventsourcing/eshttp"
)

// size answers with the size of the body of a request.
func size(w http.ResponseWriter, r *http.Request) {
	n, err := io.Copy(io.Discard, r.Body)
	if err != nil {
		eshttp.Error(w, r, err)
		return
	}
	fmt.Fprint(w, n)
}

func TestARouteTakesLargerOrSmallerBodies(t *testing.T) {
	t.Parallel()
	mux := http.NewServeMux()
	mux.HandleFunc("POST /usual", size)
	mux.Handle("POST /large", eshttp.MaxBody(10<<20, http.HandlerFunc(size)))
	mux.Handle("POST /small", eshttp.MaxBody(10, http.HandlerFunc(size)))
	mux.Handle("POST /none", eshttp.MaxBody(-1, http.HandlerFunc(size)))
	mux.Handle("POST /wrapped", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Body = struct{ io.ReadCloser }{r.Body} // as other middleware does
		eshttp.MaxBody(2<<20, http.HandlerFunc(size)).ServeHTTP(w, r)
	}))
	mux.Handle("POST /upload", eshttp.MaxBody(10<<20, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		file, header, err := r.FormFile("scan")
		if err != nil {
			eshttp.Error(w, r, err)
			return
		}
		defer file.Close()
		fmt.Fprint(w, header.Filename, " ", header.Size)
	})))
	p := run(t, eshttp.Config{Handler: mux, MaxBodyBytes: 1 << 20})
	for _, c := range []struct {
		path   string
		bytes  int
		status int
	}{
		{"/usual", 1 << 20, 200},
		{"/usual", 1<<20 + 1, 413},
		{"/large", 10 << 20, 200},
		{"/large", 10<<20 + 1, 413},
		{"/small", 10, 200},
		{"/small", 11, 413},
		{"/none", 1, 413},
		{"/none", 0, 200},
		{"/wrapped", 2 << 20, 200},
		{"/wrapped", 2<<20 + 1, 413},
	} {
		response, err := http.Post(p.url+c.path, "text/plain", bytes.NewReader(make([]byte, c.bytes)))
		if err != nil {
			t.Fatal(err)
		}
		a := read(t, response)
		if a.status != c.status || a.status == http.StatusOK && a.body != strconv.Itoa(c.bytes) {
			t.Errorf("%d bytes to %s: %d %s, want %d", c.bytes, c.path, a.status, a.body, c.status)
		}
	}

	var form bytes.Buffer
	parts := multipart.NewWriter(&form)
	part, err := parts.CreateFormFile("scan", "scan.png")
	if err == nil {
		_, err = part.Write(make([]byte, 9<<20))
	}
	if err = errors.Join(err, parts.Close()); err != nil {
		t.Fatal(err)
	}
	response, err := http.Post(p.url+"/upload", parts.FormDataContentType(), &form)
	if err != nil {
		t.Fatal(err)
	}
	if a := read(t, response); a.body != fmt.Sprint("scan.png ", 9<<20) {
		t.Errorf("an upload is answered with %d %s", a.status, a.body)
	}
}

func TestMaxBodyWithoutRun(t *testing.T) {
	t.Parallel()
	h := eshttp.MaxBody(3, http.HandlerFunc(size))
	for body, status := range map[string]int{"abc": 200, "abcd": 413} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", strings.NewReader(body)))
		if w.Code != status {
			t.Errorf("%s: %d, want %d", body, w.Code, status)
		}
	}
}

// TestConnectionsBeyondTheLimitWait lets two connections that say nothing take all the room there is, and end.
func TestConnectionsBeyondTheLimitWait(t *testing.T) {
	t.Parallel()
	p := run(t, eshttp.Config{Handler: http.HandlerFunc(size), MaxConnections: 2, ReadHeaderTimeout: time.Hour})
	dial := func() net.Conn {
		c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", strings.TrimPrefix(p.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	first, second := dial(), dial()
	third := dial()
	defer third.Close()
	if _, err := io.WriteString(third, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if err := third.SetReadDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if n, err := third.Read(make([]byte, 1)); err == nil {
		t.Errorf("beyond the limit %d bytes were answered", n)
	}
	if err := errors.Join(first.Close(), second.Close(), third.SetReadDeadline(time.Time{})); err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(third)
	if err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 200 OK") {
		t.Errorf("when there was room: %q %v", answer, err)
	}
	for range 5 { // more than the room: each leaves it again
		if a := p.get("/"); a.status != http.StatusOK {
			t.Errorf("%d %s", a.status, a.body)
		}
		http.DefaultClient.CloseIdleConnections()
	}
}

// TestAStopDoesNotWaitForRoom stops a server that has no room for a connection that waits.
func TestAStopDoesNotWaitForRoom(t *testing.T) {
	t.Parallel()
	arrived := make(chan struct{})
	p := run(t, eshttp.Config{MaxConnections: 1, Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(arrived)
		<-eshttp.Stopping(r.Context())
	})})
	go func() {
		response, err := http.Get(p.url)
		if err == nil {
			_ = response.Body.Close()
		}
	}()
	<-arrived
	p.cancel()
	if err := p.ended(); err != nil {
		t.Errorf("Run returned %v", err)
	}
}
