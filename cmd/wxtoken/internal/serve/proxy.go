package serve

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"net/url"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/wxtoken/wxtoken"
)

const (
	// upstream is how many client requests are forwarded at a time.
	upstream = 128

	// replayed is the size up to which a body is kept, to be resent with another
	// token. A larger one is streamed, and sent once.
	replayed = 256 << 10

	// stalled is how long a client may take to send or receive the next bytes through
	// the proxy.
	stalled = time.Minute
)

// never are the paths that the proxy never forwards: those that issue tokens, which
// only the server may do, and those that take another kind of token.
var never = []string{
	"/cgi-bin/token", "/cgi-bin/stable_token", "/cgi-bin/gettoken", "/cgi-bin/component", "/cgi-bin/service", "/api/gettoken", "/sns",
}

// serveProxy is /proxy/APPID/cgi-bin/…: it forwards the request to the platform with
// the app's token added, and returns the answer unchanged.
func (s *Server) serveProxy(w http.ResponseWriter, r *http.Request, rest string) {
	appID, api, _ := strings.Cut(rest, "/")
	api = "/" + api
	cl, a, p := s.admit(w, r, appID)
	if p != nil {
		sendProblem(w, p)
		return
	}
	if !cl.mayCall(r.URL, api) {
		sendProblem(w, &problem{status: http.StatusForbidden, code: 48001,
			message: "api unauthorized: this path is not among those that this client may call through the proxy"})
		return
	}
	defer s.conns.lasts(r.Context())()
	serveUnlessStalled(a.proxy, w, r.WithContext(context.WithValue(r.Context(), calledPath{}, api)))
}

// calledPath is the key of the platform's path in a request's context.
type calledPath struct{}

// mayCall reports whether the client may call an API. Only a plain path is allowed,
// since the platform could interpret others differently.
func (c *client) mayCall(u *url.URL, api string) bool {
	clean := path.Clean(api)
	if strings.HasSuffix(api, "/") && clean != "/" {
		clean += "/"
	}
	if clean != api || u.RawPath != "" || strings.ContainsFunc(api, func(r rune) bool {
		return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("/_.-", r))
	}) {
		return false
	}
	lower := strings.ToLower(strings.TrimSuffix(api, "/"))
	if slices.ContainsFunc(never, func(n string) bool { return lower == n || strings.HasPrefix(lower, n+"/") }) {
		return false
	}
	return slices.ContainsFunc(c.Proxy, func(allowed string) bool {
		if below, ok := strings.CutSuffix(allowed, "*"); ok {
			return strings.HasPrefix(api, below)
		}
		return api == allowed
	})
}

// newProxy forwards requests to the platform of an app.
func (s *Server) newProxy(a *app) http.Handler {
	host := a.apis.Host
	if a.apis.Port() == "" {
		host += map[string]string{"http": ":80", "https": ":443"}[a.apis.Scheme]
	}
	return &httputil.ReverseProxy{
		Transport: &wxtoken.Transport{Source: a.source, Base: s.apis, Hosts: []string{host}},
		Rewrite: func(p *httputil.ProxyRequest) {
			api, _ := p.In.Context().Value(calledPath{}).(string)
			p.Out.URL.Scheme, p.Out.URL.Host = a.apis.Scheme, a.apis.Host
			p.Out.URL.Path, p.Out.URL.RawPath = strings.TrimSuffix(a.apis.Path, "/")+api, ""
			p.Out.URL.RawQuery = withoutToken(p.In.URL.RawQuery)
			p.Out.Host = ""
			for _, name := range []string{"Authorization", "Cookie", "Connection", "Upgrade"} {
				p.Out.Header.Del(name)
			}
			// The platform's answer must be readable for Transport to find a
			// rejection in it.
			p.Out.Header.Del("Accept-Encoding")
			keepBody(p.Out)
		},
		BufferPool:   &buffers{},
		ErrorHandler: s.proxyFailed,
		ErrorLog:     newErrorLog(s.log),
	}
}

// buffers are used to copy answers. An answer of unknown length is flushed after each
// write, as ReverseProxy does.
type buffers struct{ pool sync.Pool }

func (b *buffers) Get() []byte {
	if one, ok := b.pool.Get().(*[32 << 10]byte); ok {
		return one[:]
	}
	return make([]byte, 32<<10)
}

func (b *buffers) Put(one []byte) { b.pool.Put((*[32 << 10]byte)(one)) }

// newAPIs returns the transport to the APIs behind the proxy.
func newAPIs() *http.Transport {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.MaxConnsPerHost, t.MaxIdleConnsPerHost, t.MaxIdleConns = upstream, upstream, upstream
	t.DisableCompression = true // the answer is passed on unchanged
	t.ResponseHeaderTimeout = stalled
	return t
}

// withoutToken removes a client's access_token from a query: the proxy adds the
// current one, and SDKs cannot always omit theirs.
func withoutToken(query string) string {
	parts := strings.Split(query, "&")
	return strings.Join(slices.DeleteFunc(parts, func(part string) bool {
		name, _, _ := strings.Cut(part, "=")
		plain, err := url.QueryUnescape(name)
		return err == nil && plain == "access_token"
	}), "&")
}

// keepBody reads a small body of known length, so that the request can be resent when
// the platform rejects the token. A read error appears when the body is sent.
func keepBody(out *http.Request) {
	if out.Body == nil || out.ContentLength <= 0 || out.ContentLength > replayed {
		return
	}
	text, err := io.ReadAll(io.LimitReader(out.Body, out.ContentLength))
	if err != nil || int64(len(text)) != out.ContentLength {
		out.Body = io.NopCloser(io.MultiReader(bytes.NewReader(text), failing{cmp.Or(err, io.ErrUnexpectedEOF)}))
		return
	}
	out.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(text)), nil }
	out.Body, _ = out.GetBody()
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// proxyFailed answers when the platform was not asked or did not answer.
func (s *Server) proxyFailed(w http.ResponseWriter, r *http.Request, err error) {
	p, known := noToken(err)
	switch {
	case r.Context().Err() != nil:
		p.status, p.message = http.StatusBadGateway, "system error: the request took too long, or its client went away"
	case !known:
		p.status, p.message = http.StatusBadGateway, "system error: the platform does not answer"
	}
	sendProblem(w, p)
}

// A timedResponse has no overall time limit, since it can be a long file, but ends
// when no data has moved in either direction for a while.
type timedResponse struct {
	http.ResponseWriter
	control *http.ResponseController
	timer   *time.Timer
}

// serveUnlessStalled serves a request by next with time limits that restart whenever data
// moves.
func serveUnlessStalled(next http.Handler, w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	s := &timedResponse{w, http.NewResponseController(w), time.AfterFunc(stalled, func() {
		cancel(fmt.Errorf("wxtoken: no data has moved for %v", stalled))
	})}
	defer s.timer.Stop()
	defer func() { // the next request of the connection must not inherit them
		_ = s.control.SetReadDeadline(time.Time{})
		_ = s.control.SetWriteDeadline(time.Time{})
	}()
	_ = s.control.EnableFullDuplex() // otherwise an answer waits for the end of its request
	r = r.WithContext(ctx)
	if r.Body != nil && r.Body != http.NoBody {
		r.Body = &steadyBody{r.Body, s}
	}
	next.ServeHTTP(s, r)
}

func (s *timedResponse) moved() { s.timer.Reset(stalled) }

// Write implements http.ResponseWriter.
func (s *timedResponse) Write(p []byte) (int, error) {
	_ = s.control.SetWriteDeadline(time.Now().Add(stalled))
	s.moved()
	return s.ResponseWriter.Write(p)
}

// WriteHeader keeps the server from guessing a type that the platform did not send.
func (s *timedResponse) WriteHeader(status int) {
	if h := s.Header(); h.Get("Content-Type") == "" {
		h["Content-Type"] = nil
	}
	s.ResponseWriter.WriteHeader(status)
}

// Unwrap is for http.ResponseController.
func (s *timedResponse) Unwrap() http.ResponseWriter { return s.ResponseWriter }

type steadyBody struct {
	io.ReadCloser
	s *timedResponse
}

func (b *steadyBody) Read(p []byte) (int, error) {
	_ = b.s.control.SetReadDeadline(time.Now().Add(stalled))
	b.s.moved()
	n, err := b.ReadCloser.Read(p)
	if err != nil {
		_ = b.s.control.SetReadDeadline(time.Time{})
	}
	return n, err
}
