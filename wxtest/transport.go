package wxtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
)

// Client returns a client whose requests, to any host, reach the platform in process:
// without a socket, so that it works in a testing/synctest bubble.
func (p *Platform) Client() *http.Client { return &http.Client{Transport: p.Transport()} }

// Transport is TransportFrom("127.0.0.1").
func (p *Platform) Transport() http.RoundTripper { return p.TransportFrom("127.0.0.1") }

// TransportFrom returns a RoundTripper that calls the platform in process, as a
// client with this IP. A lost reply is an error that wraps io.ErrUnexpectedEOF. When
// a request's context ends, RoundTrip returns at once, while the request still takes
// effect. Bodies are streamed in both directions; an unread answer blocks nothing.
func (p *Platform) TransportFrom(ip string) http.RoundTripper {
	return &inProcess{handler: p, remote: net.JoinHostPort(ip, "40000")}
}

type inProcess struct {
	handler http.Handler
	remote  string
}

func (t *inProcess) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx := req.Context()
	r := req.Clone(ctx)
	if r.Body == nil {
		r.Body = http.NoBody
	}
	if err := context.Cause(ctx); err != nil {
		_ = r.Body.Close()
		return nil, err
	}
	r.RemoteAddr = t.remote
	r.RequestURI = req.URL.RequestURI()
	r.URL.Scheme, r.URL.Host, r.URL.User = "", "", nil // as a server sees it
	if r.Host == "" {
		r.Host = req.URL.Host
	}
	w := &reply{header: http.Header{}, begun: make(chan struct{}), more: make(chan struct{}, 1)}
	go func() {
		defer func() { _ = r.Body.Close() }()
		w.run(t.handler, r)
	}()
	select {
	case <-w.begun:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	return w.response(req)
}

// A reply is the ResponseWriter of one request in process: an unbounded pipe, so that
// a handler never waits for its client.
type reply struct {
	header http.Header // the handler's
	begun  chan struct{}
	more   chan struct{} // signals that there is more to read

	mu     sync.Mutex
	status int // 0 until the header is written
	sent   http.Header
	buf    []byte
	end    error // nil while the handler runs, io.EOF after success
}

func (y *reply) run(h http.Handler, r *http.Request) {
	defer func() {
		var end error = io.EOF
		switch v := recover(); {
		case v == http.ErrAbortHandler:
			end = fmt.Errorf("wxtest: connection closed without an answer: %w", io.ErrUnexpectedEOF)
		case v != nil:
			end = fmt.Errorf("wxtest: handler panicked: %v", v)
		default:
			y.WriteHeader(http.StatusOK)
		}
		y.finish(end)
	}()
	h.ServeHTTP(y, r)
}

func (y *reply) finish(end error) {
	y.mu.Lock()
	defer y.mu.Unlock()
	y.end = end
	if y.status == 0 {
		close(y.begun)
	}
	y.wake()
}

func (y *reply) wake() {
	select {
	case y.more <- struct{}{}:
	default:
	}
}

func (y *reply) Header() http.Header { return y.header }

func (y *reply) WriteHeader(status int) {
	y.mu.Lock()
	defer y.mu.Unlock()
	if y.status == 0 {
		y.status, y.sent = status, y.header.Clone()
		close(y.begun)
	}
}

func (y *reply) Write(b []byte) (int, error) {
	y.WriteHeader(http.StatusOK)
	y.mu.Lock()
	defer y.mu.Unlock()
	y.buf = append(y.buf, b...)
	y.wake()
	return len(b), nil
}

// Flush makes everything written so far readable.
func (y *reply) Flush() { y.WriteHeader(http.StatusOK) }

func (y *reply) response(req *http.Request) (*http.Response, error) {
	y.mu.Lock()
	defer y.mu.Unlock()
	if y.status == 0 {
		return nil, y.end
	}
	length := int64(-1)
	if n, err := strconv.ParseInt(y.sent.Get("Content-Length"), 10, 64); err == nil {
		length = n
	}
	return &http.Response{
		Status:        fmt.Sprint(y.status, " ", http.StatusText(y.status)),
		StatusCode:    y.status,
		Proto:         "HTTP/1.1",
		ProtoMajor:    1,
		ProtoMinor:    1,
		Header:        y.sent,
		Body:          &replyBody{y: y, ctx: req.Context(), closed: make(chan struct{})},
		ContentLength: length,
		Request:       req,
	}, nil
}

type replyBody struct {
	y      *reply
	ctx    context.Context
	once   sync.Once
	closed chan struct{}
}

var errBodyClosed = errors.New("wxtest: read on closed response body")

func (b *replyBody) Read(into []byte) (int, error) {
	for {
		select {
		case <-b.closed:
			return 0, errBodyClosed
		default:
		}
		if n, err := b.y.read(into); n > 0 || err != nil {
			return n, err
		}
		select {
		case <-b.y.more:
		case <-b.closed:
		case <-b.ctx.Done():
			return 0, context.Cause(b.ctx)
		}
	}
}

func (y *reply) read(into []byte) (int, error) {
	y.mu.Lock()
	defer y.mu.Unlock()
	if len(y.buf) > 0 {
		n := copy(into, y.buf)
		y.buf = y.buf[n:]
		return n, nil
	}
	return 0, y.end
}

func (b *replyBody) Close() error {
	b.once.Do(func() { close(b.closed) })
	return nil
}
