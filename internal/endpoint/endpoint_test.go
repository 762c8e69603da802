package endpoint

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken/internal/fetchtest"
)

// plain makes an Endpoint like cgi-bin/token, asked through rt or, if that is
// nil, as by default.
func plain(rt http.RoundTripper, hosts ...string) *Endpoint {
	if hosts == nil {
		hosts = []string{"http://wx.example"}
	}
	params := func(secret string) map[string]string { return map[string]string{"appid": "wx1", "secret": secret} }
	return &Endpoint{Path: "/cgi-bin/token", Field: "access_token", Params: params, Hosts: hosts, Client: &http.Client{Transport: rt}}
}

// stable makes one like cgi-bin/stable_token.
func stable(rt http.RoundTripper) *Endpoint {
	e := plain(rt)
	e.Post, e.Repeatable = true, true
	return e
}

type token struct {
	Value     string
	ExpiresAt time.Time
}

// fetch asks e until ctx ends or, if that has no deadline, for ten seconds.
func fetch(ctx context.Context, e *Endpoint) (token, error) {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
	}
	value, expiresAt, err := e.Fetch(ctx, fetchtest.Secret)
	return token{value, expiresAt}, err
}

// outcome names what the error of a fetch says.
func outcome(err error) string {
	var refused *Refusal
	var unsent *Unsent
	switch {
	case err == nil:
		return "issued"
	case errors.As(err, &refused):
		return "refused"
	case errors.As(err, &unsent):
		return "not sent"
	}
	return "unknown"
}

// A roundTripper is a transport that tells nothing to httptrace.
type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestFetchTriesAgain(t *testing.T) {
	const (
		busy   = `{"errcode":-1,"errmsg":"system error"}`
		minute = `{"errcode":45011,"errmsg":"minute quota"}`
	)
	reply := func(status int, body string) roundTripper {
		return func(*http.Request) (*http.Response, error) { return respond(status, body), nil }
	}
	lost := roundTripper(func(*http.Request) (*http.Response, error) { return nil, io.EOF })
	unreached := roundTripper(func(r *http.Request) (*http.Response, error) {
		httptrace.ContextClientTrace(r.Context()).GetConn(r.URL.Host)
		return nil, syscall.ECONNREFUSED
	})
	good, html := reply(200, fetchtest.Good), reply(502, "<html>")
	tests := map[string]struct {
		stable  bool
		replies []roundTripper
		asked   int
		want    string
	}{
		"busy once":               {false, []roundTripper{reply(200, busy), good}, 2, "issued"},
		"busy three times":        {false, []roundTripper{reply(200, busy), reply(503, busy), reply(200, busy)}, 3, "refused"},
		"minute quota":            {false, []roundTripper{reply(200, minute)}, 1, "refused"},
		"server error":            {false, []roundTripper{html}, 1, "unknown"},
		"lost reply":              {false, []roundTripper{lost}, 1, "unknown"},
		"busy, then lost":         {false, []roundTripper{reply(200, busy), lost}, 2, "unknown"},
		"stable, server error":    {true, []roundTripper{html, html, good}, 3, "issued"},
		"stable, lost":            {true, []roundTripper{lost, lost, lost}, 3, "unknown"},
		"stable, lost, then busy": {true, []roundTripper{lost, reply(200, busy), good}, 3, "issued"},
		"unreached, then good":    {false, []roundTripper{unreached, good}, 2, "issued"},
		"unreached, then lost":    {false, []roundTripper{unreached, lost}, 2, "unknown"},
		"unreached":               {false, []roundTripper{unreached, unreached, unreached}, 3, "not sent"},
		"busy, then unreached":    {false, []roundTripper{reply(200, busy), unreached, unreached}, 3, "not sent"},
		"stable, lost, unreached": {true, []roundTripper{lost, unreached, unreached}, 3, "unknown"},
		"stable, wrong secret":    {true, []roundTripper{reply(200, `{"errcode":40125}`)}, 1, "refused"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var at []time.Time
				opt := roundTripper(func(r *http.Request) (*http.Response, error) {
					at = append(at, time.Now())
					time.Sleep(time.Second)
					return test.replies[len(at)-1](r)
				})
				f := plain(opt)
				if test.stable {
					f = stable(opt)
				}
				tok, err := fetch(t.Context(), f)
				assert.Equal(t, test.want, outcome(err), err)
				require.Len(t, at, test.asked)
				if err == nil {
					assert.Equal(t, at[len(at)-1].Add(2*time.Hour).Round(0), tok.ExpiresAt, "not counted from the last request")
				}
				for i, least := range []time.Duration{100 * time.Millisecond, 200 * time.Millisecond} {
					if i+1 < len(at) {
						waited := at[i+1].Sub(at[i]) - time.Second
						assert.Greater(t, waited, least, "no jitter")
						assert.Less(t, waited, 2*least)
					}
				}
				fetchtest.NoLeak(t, err)
			})
		})
	}
}

func TestFetchEndsWithContext(t *testing.T) {
	hang := roundTripper(func(r *http.Request) (*http.Response, error) {
		<-r.Context().Done()
		return nil, &url.Error{Op: "Get", URL: r.URL.String(), Err: r.Context().Err()}
	})
	busy := roundTripper(func(*http.Request) (*http.Response, error) { return respond(200, `{"errcode":-1}`), nil })
	t.Run("deadline", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			start := time.Now()
			_, err := fetch(context.Background(), plain(hang))
			assert.ErrorIs(t, err, context.DeadlineExceeded)
			assert.Equal(t, "unknown", outcome(err))
			assert.Equal(t, 10*time.Second, time.Since(start))
			fetchtest.NoLeak(t, err)
		})
	})
	t.Run("client's timeout", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			start := time.Now()
			f := plain(hang)
			f.Client.Timeout = 3 * time.Second
			_, err := fetch(t.Context(), f)
			assert.ErrorIs(t, err, context.DeadlineExceeded)
			assert.Equal(t, 3*time.Second, time.Since(start))
		})
	})
	t.Run("deadline before the next try", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 99*time.Millisecond)
			defer cancel()
			start := time.Now()
			_, err := fetch(ctx, plain(busy))
			assert.Equal(t, "refused", outcome(err))
			assert.Zero(t, time.Since(start), "waited for nothing")
		})
	})
	t.Run("cancelled between tries", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(50*time.Millisecond, cancel)
			start := time.Now()
			_, err := fetch(ctx, plain(busy))
			assert.Equal(t, "refused", outcome(err))
			assert.Equal(t, 50*time.Millisecond, time.Since(start))
		})
	})
	t.Run("cause of its own", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			late := errors.New("too late")
			ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, late)
			defer cancel()
			_, err := fetch(ctx, plain(roundTripper(func(r *http.Request) (*http.Response, error) {
				<-r.Context().Done()
				return nil, context.Cause(r.Context())
			})))
			assert.ErrorIs(t, err, late)
			assert.ErrorIs(t, err, context.DeadlineExceeded)
		})
	})
	t.Run("ended before", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := fetch(ctx, plain(hang))
		assert.ErrorIs(t, err, context.Canceled)
		assert.Equal(t, "not sent", outcome(err))
	})
	t.Run("in mid-answer", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			stuck := roundTripper(func(r *http.Request) (*http.Response, error) {
				resp := respond(200, "")
				resp.Body = io.NopCloser(io.MultiReader(strings.NewReader(fetchtest.Good[:20]), readerFunc(func([]byte) (int, error) {
					<-r.Context().Done()
					return 0, errors.New("stream reset")
				})))
				return resp, nil
			})
			start := time.Now()
			_, err := fetch(t.Context(), stable(stuck))
			assert.ErrorIs(t, err, context.DeadlineExceeded)
			assert.ErrorContains(t, err, "stream reset")
			assert.Equal(t, "unknown", outcome(err))
			assert.Equal(t, 10*time.Second, time.Since(start))
		})
	})
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func TestFetchFallsBackOnConnectionFailureOnly(t *testing.T) {
	good, requests := fetchtest.Serve(t, fetchtest.Answer(200, fetchtest.Good))
	dead := refusing(t)
	notTLS := "https" + good[len("http"):] // speaks plain HTTP: the handshake fails
	tls := httptest.NewUnstartedServer(fetchtest.Answer(200, fetchtest.Good))
	tls.Config.ErrorLog = log.New(io.Discard, "", 0)
	tls.StartTLS()
	defer tls.Close()
	hangsUp, _ := fetchtest.Serve(t, func(w http.ResponseWriter, r *http.Request) { panic(http.ErrAbortHandler) })

	for name, test := range map[string]struct {
		hosts []string
		asked int32
		want  string
	}{
		"refused":         {[]string{dead, dead, good, dead}, 1, "issued"},
		"not TLS":         {[]string{notTLS, good}, 1, "issued"},
		"unknown issuer":  {[]string{tls.URL, good}, 1, "issued"},
		"all down":        {[]string{dead, notTLS, tls.URL}, 0, "not sent"},
		"hangs up":        {[]string{hangsUp, good}, 0, "unknown"},
		"first one works": {[]string{good, hangsUp}, 1, "issued"},
	} {
		t.Run(name, func(t *testing.T) {
			requests.Store(0)
			_, err := fetch(t.Context(), plain(nil, test.hosts...))
			assert.Equal(t, test.want, outcome(err), err)
			assert.Equal(t, test.asked, requests.Load())
			fetchtest.NoLeak(t, err)
			if test.want == "not sent" {
				var dial *net.OpError
				assert.ErrorAs(t, err, &dial)
				assert.ErrorContains(t, err, "certificate")
				assert.ErrorContains(t, err, dead[len("http://"):])
				assert.ErrorContains(t, err, "nothing sent")
			}
		})
	}
}

// dialing makes a transport whose connections are pipes, which a synctest bubble
// can wait on. A host without a handler swallows every packet.
func dialing(hosts map[string]http.HandlerFunc) http.RoundTripper {
	return &http.Transport{
		DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
			handler := hosts[addr]
			if handler == nil {
				<-ctx.Done()
				return nil, ctx.Err()
			}
			client, server := net.Pipe()
			go func() {
				defer server.Close()
				if r, err := http.ReadRequest(bufio.NewReader(server)); err == nil {
					w := httptest.NewRecorder()
					handler(w, r)
					_ = w.Result().Write(server)
				}
			}()
			return client, nil
		},
	}
}

// A first host that swallows packets may not use up the deadline; one that took
// the connection and then sleeps is the last that is asked.
func TestFetchSlowHost(t *testing.T) {
	var asked int
	good := func(w http.ResponseWriter, r *http.Request) { asked++; fetchtest.Answer(200, fetchtest.Good)(w, r) }
	asleep := func(w http.ResponseWriter, r *http.Request) { time.Sleep(time.Minute) }
	slow := func(w http.ResponseWriter, r *http.Request) { time.Sleep(9 * time.Second); good(w, r) }
	hosts := map[string]http.HandlerFunc{"good:80": good, "asleep:80": asleep, "slow:80": slow}
	for name, test := range map[string]struct {
		urls  []string
		want  string
		asked int
		took  time.Duration
	}{
		"black hole first":  {[]string{"http://hole", "http://good"}, "issued", 1, 4 * time.Second},
		"two black holes":   {[]string{"http://hole", "http://hole2", "http://good"}, "issued", 1, 6 * time.Second},
		"slow answer":       {[]string{"http://slow", "http://good"}, "issued", 1, 9 * time.Second},
		"asleep":            {[]string{"http://asleep", "http://good"}, "unknown", 0, 12 * time.Second},
		"hole, then asleep": {[]string{"http://hole", "http://asleep", "http://good"}, "unknown", 0, 12 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), 12*time.Second)
				defer cancel()
				asked = 0
				defer time.Sleep(time.Minute) // until the last handler is awake
				start := time.Now()
				_, err := fetch(ctx, plain(dialing(hosts), test.urls...))
				assert.Equal(t, test.want, outcome(err), err)
				assert.Equal(t, test.asked, asked)
				assert.Equal(t, test.took, time.Since(start).Round(time.Millisecond))
				assert.Equal(t, test.took == 12*time.Second, errors.Is(err, context.DeadlineExceeded))
				fetchtest.NoLeak(t, err)
			})
		})
	}
	t.Run("none reachable", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			start := time.Now()
			_, err := fetch(t.Context(), plain(dialing(nil), "http://a", "http://b", "http://c", "http://d", "http://e"))
			assert.Equal(t, "not sent", outcome(err), err)
			assert.LessOrEqual(t, time.Since(start), 10*time.Second)
			for _, host := range []string{"a", "b", "c", "d", "e"} {
				assert.ErrorContains(t, err, "; "+host+": no connection within")
			}
		})
	})
}

// A keep-alive connection that dies under a GET makes http.Transport send it
// again. The server here answers the first request of a connection and reads the
// second without an answer: each token request must arrive once.
func TestFetchSendsOnce(t *testing.T) {
	var tokenRequests atomic.Int32
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				r := bufio.NewReader(conn)
				for n := 0; ; n++ {
					req, err := http.ReadRequest(r)
					if err != nil {
						return
					}
					if req.URL.Path != "/warm" {
						tokenRequests.Add(1)
						if n > 0 || req.Header.Get("X-Drop") != "" {
							return
						}
					}
					_, _ = fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(fetchtest.Good), fetchtest.Good)
				}
			}()
		}
	}()
	base := "http://" + l.Addr().String()

	for name, wrap := range map[string]func(http.RoundTripper) http.RoundTripper{
		"http.Transport": func(rt http.RoundTripper) http.RoundTripper { return rt },
		"a wrapper": func(rt http.RoundTripper) http.RoundTripper {
			return roundTripper(func(r *http.Request) (*http.Response, error) { return rt.RoundTrip(r.Clone(r.Context())) })
		},
	} {
		t.Run(name, func(t *testing.T) {
			pool := &http.Transport{}
			defer pool.CloseIdleConnections()
			client := &http.Client{Transport: wrap(pool)}
			warm := func() {
				resp, err := client.Get(base + "/warm")
				require.NoError(t, err)
				_, err = io.Copy(io.Discard, resp.Body)
				require.NoError(t, err)
				_ = resp.Body.Close()
			}
			warm()
			var reused bool
			ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
				GotConn: func(info httptrace.GotConnInfo) { reused = reused || info.Reused },
			})
			tokenRequests.Store(0)
			req, _ := http.NewRequestWithContext(ctx, "GET", base+"/token", nil)
			if resp, err := client.Do(req); err == nil {
				_ = resp.Body.Close()
			}
			require.True(t, reused)
			require.EqualValues(t, 2, tokenRequests.Load(), "a plain client no longer sends twice: this test shows nothing")

			warm()
			reused = false
			tokenRequests.Store(0)
			_, err = fetch(ctx, plain(client.Transport, base))
			assert.EqualValues(t, 1, tokenRequests.Load())
			if reused {
				assert.Equal(t, "unknown", outcome(err), err)
			} else {
				assert.NoError(t, err)
			}
			assert.Equal(t, name == "a wrapper", reused)
			fetchtest.NoLeak(t, err)
		})
	}
}

// Over HTTP/2 too, a request that a connection took is one that may have left.
func TestFetchHTTP2(t *testing.T) {
	var requests atomic.Int32
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		assert.Equal(t, 2, r.ProtoMajor)
		if requests.Add(1) == 1 {
			fetchtest.Answer(200, fetchtest.Good)(w, r)
			return
		}
		panic(http.ErrAbortHandler)
	}))
	srv.EnableHTTP2 = true
	srv.StartTLS()
	defer srv.Close()
	for _, f := range []*Endpoint{
		plain(srv.Client().Transport, srv.URL, srv.URL),
		plain(roundTripper(srv.Client().Transport.RoundTrip), srv.URL, srv.URL),
	} {
		requests.Store(0)
		tok, err := fetch(t.Context(), f)
		require.NoError(t, err)
		assert.Equal(t, fetchtest.Token, tok.Value)
		_, err = fetch(t.Context(), f)
		assert.Equal(t, "unknown", outcome(err), err)
		assert.EqualValues(t, 2, requests.Load())
		fetchtest.NoLeak(t, err)
	}
}

// Errors of transports that print the URL, or what the platform sent.
func TestFetchHidesTransportErrors(t *testing.T) {
	for name, make := range map[string]func(*http.Request) error{
		"url.Error": func(r *http.Request) error {
			return &url.Error{Op: "Get", URL: r.URL.String(), Err: syscall.ECONNRESET}
		},
		"wrapped": func(r *http.Request) error {
			return fmt.Errorf("x: %w", &url.Error{Op: "Get", URL: r.URL.String(), Err: syscall.ECONNRESET})
		},
		"text": func(r *http.Request) error { return fmt.Errorf("failed: GET %s", r.URL) },
		"nested": func(r *http.Request) error {
			return &url.Error{Err: fmt.Errorf("GET %v: %w", r.URL.Query(), syscall.ECONNRESET)}
		},
		"token": func(r *http.Request) error { return fmt.Errorf("malformed HTTP response %q", fetchtest.Good) },
		"no cause": func(r *http.Request) error {
			return fmt.Errorf("%w", &url.Error{Op: "Get", URL: r.URL.Host, Err: errors.New("")})
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := fetch(t.Context(), plain(roundTripper(func(r *http.Request) (*http.Response, error) {
				return nil, make(r)
			})))
			require.Error(t, err)
			assert.Equal(t, "unknown", outcome(err), err)
			fetchtest.NoLeak(t, err)
			if name == "url.Error" || name == "wrapped" {
				assert.ErrorIs(t, err, syscall.ECONNRESET)
			}
		})
	}
}

func TestFetchThroughProxy(t *testing.T) {
	proxy, requests := fetchtest.Serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodConnect {
			http.Error(w, "no "+fetchtest.Secret, http.StatusForbidden)
			return
		}
		http.Error(w, "cannot reach "+r.RequestURI, http.StatusBadGateway)
	})
	u, err := url.Parse(proxy)
	require.NoError(t, err)
	client := &http.Transport{Proxy: http.ProxyURL(u)}

	_, err = fetch(t.Context(), plain(client, "http://wx.example"))
	assert.Equal(t, "unknown", outcome(err))
	assert.ErrorContains(t, err, "HTTP 502")
	fetchtest.NoLeak(t, err)

	requests.Store(0)
	_, err = fetch(t.Context(), plain(client, "https://wx.example"))
	assert.Equal(t, "not sent", outcome(err), err)
	assert.ErrorContains(t, err, "Forbidden")
	assert.EqualValues(t, 3, requests.Load())
	fetchtest.NoLeak(t, err)
}

func TestFetchConcurrently(t *testing.T) {
	base, requests := fetchtest.Serve(t, fetchtest.Answer(200, fetchtest.Good))
	f := plain(nil, base)
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			_, err := fetch(t.Context(), f)
			assert.NoError(t, err)
		})
	}
	all.Wait()
	assert.EqualValues(t, 20, requests.Load())
}

// refusing returns a base URL on which nothing listens.
func refusing(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	return "http://" + l.Addr().String()
}

func respond(status int, body string) *http.Response {
	return &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body))}
}
