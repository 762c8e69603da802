package endpoint

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken/internal/fetchtest"
)

// If a keep-alive connection breaks during a GET, http.Transport resends it. The
// server here closes a connection on its second request: each token request must
// arrive once, with its body.
func TestFetchSendsOnce(t *testing.T) {
	var used sync.Map // connections that had their first request, by client address
	var body atomic.Value
	base, requests := fetchtest.Serve(t, func(w http.ResponseWriter, r *http.Request) {
		sent, _ := io.ReadAll(r.Body)
		body.Store(string(sent))
		if _, again := used.LoadOrStore(r.RemoteAddr, true); again {
			panic(http.ErrAbortHandler)
		}
		fetchtest.Answer(200, fetchtest.Good)(w, r)
	})
	for method, e := range map[string]*Endpoint{"GET": {}, "JSON": {Post: true}, "form": {Post: true, Form: true}} {
		for name, wrap := range map[string]func(http.RoundTripper) http.RoundTripper{
			"http.Transport": func(rt http.RoundTripper) http.RoundTripper { return rt },
			"a wrapper": func(rt http.RoundTripper) http.RoundTripper {
				return roundTripper(func(r *http.Request) (*http.Response, error) { return rt.RoundTrip(r.Clone(r.Context())) })
			},
		} {
			t.Run(method+" through "+name, func(t *testing.T) {
				pool := &http.Transport{}
				defer pool.CloseIdleConnections()
				client := &http.Client{Transport: wrap(pool)}
				var reused bool
				ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
					GotConn: func(info httptrace.GotConnInfo) { reused = reused || info.Reused },
				})
				get := func() {
					req, err := http.NewRequestWithContext(ctx, http.MethodGet, base, nil)
					require.NoError(t, err)
					resp, err := client.Do(req)
					require.NoError(t, err)
					_, err = io.Copy(io.Discard, resp.Body) // to the end: the connection goes back to the pool
					require.NoError(t, err)
					require.NoError(t, resp.Body.Close())
				}
				get()
				require.False(t, reused)
				get()
				require.True(t, reused)
				require.EqualValues(t, 3, requests.Swap(0), "a plain client no longer resends, so this test proves nothing")

				reused = false
				once := plain(client.Transport, base)
				once.Post, once.Form = e.Post, e.Form
				_, err := fetch(ctx, once)
				assert.EqualValues(t, 1, requests.Swap(0))
				assert.Equal(t, e.Post, body.Load() != "")
				if name == "a wrapper" {
					assert.True(t, reused)
					assert.Equal(t, "unknown", outcome(err), err)
				} else {
					assert.False(t, reused)
					assert.NoError(t, err)
				}
				fetchtest.NoLeak(t, err)
			})
		}
	}
}

// Over HTTP/2 too, a request that was given a connection may have left.
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
