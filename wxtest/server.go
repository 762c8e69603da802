package wxtest

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
)

// A Server is a [Platform] that listens on a port of the loopback interface.
// Its Close must be called.
type Server struct {
	*Platform
	URL string // base URL, http://127.0.0.1:port without a slash at the end

	http *httptest.Server
	stop context.CancelFunc
}

// NewServer starts a platform. It panics if it finds no port to listen on.
func NewServer(opts ...Option) *Server {
	p := NewPlatform(opts...)
	ctx, stop := context.WithCancel(context.Background())
	h := httptest.NewUnstartedServer(p)
	h.Config.BaseContext = func(net.Listener) context.Context { return ctx }
	h.Start()
	return &Server{Platform: p, URL: h.URL, http: h, stop: stop}
}

// Client returns a client whose requests go to the server, whatever host and scheme
// they name: code under test may keep https://api.weixin.qq.com.
func (s *Server) Client() *http.Client {
	return &http.Client{Transport: &reroute{
		base: s.http.Client().Transport,
		host: strings.TrimPrefix(s.URL, "http://"),
	}}
}

// Close ends the delays of faults, waits for requests to end and stops listening.
// Requests that are still delayed by a [LateRequest] never take effect.
func (s *Server) Close() {
	s.stop()
	s.http.Close()
	s.forgetLate()
}

// A reroute sends every request to one host over plain HTTP.
type reroute struct {
	base http.RoundTripper
	host string
}

func (t *reroute) RoundTrip(req *http.Request) (*http.Response, error) {
	r := req.Clone(req.Context())
	if r.Host == "" {
		r.Host = req.URL.Host
	}
	r.URL.Scheme, r.URL.Host = "http", t.host
	resp, err := t.base.RoundTrip(r)
	if resp != nil {
		resp.Request = req // redirects and cookies depend on the host that was asked
	}
	return resp, err
}
