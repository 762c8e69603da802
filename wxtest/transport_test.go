package wxtest_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// handle adds h to the platform and returns a request for it.
func (p platform) handle(ctx context.Context, h http.HandlerFunc) *http.Request {
	p.t.Helper()
	p.Handle("/h", h)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, api+"/h?access_token="+p.Issue("wx1"), nil)
	require.NoError(p.t, err)
	return req
}

func TestTransportStreamsBothWays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlatform(t)
		req := p.handle(t.Context(), func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X-Test", "1")
			w.WriteHeader(http.StatusCreated)
			w.Header().Set("X-Late", "1")
			w.(http.Flusher).Flush()
			_, _ = io.Copy(w, r.Body)
			panic(http.ErrAbortHandler)
		})
		pr, pw := io.Pipe()
		req.Body = pr
		resp, err := p.client.Do(req)
		require.NoError(t, err)
		assert.Equal(t, "201 Created", resp.Status)
		assert.Equal(t, http.Header{"X-Test": {"1"}}, resp.Header)
		assert.EqualValues(t, -1, resp.ContentLength)

		for _, word := range []string{"one", "two"} {
			_, err = io.WriteString(pw, word)
			require.NoError(t, err)
			got := make([]byte, 3)
			_, err = io.ReadFull(resp.Body, got)
			require.NoError(t, err)
			assert.Equal(t, word, string(got))
		}
		require.NoError(t, pw.Close())
		_, err = io.ReadAll(resp.Body)
		require.ErrorIs(t, err, io.ErrUnexpectedEOF, "cut off after it started")
		require.NoError(t, resp.Body.Close())
	})
}

func TestTransportBodyEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlatform(t)
		ctx, cancel := context.WithCancel(t.Context())
		forever := func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, "begun")
			<-r.Context().Done()
		}
		resp, err := p.client.Do(p.handle(ctx, forever))
		require.NoError(t, err)
		time.AfterFunc(time.Second, cancel)
		body, err := io.ReadAll(resp.Body)
		assert.Equal(t, "begun", string(body))
		require.ErrorIs(t, err, context.Canceled)
		require.NoError(t, resp.Body.Close())

		ctx, cancel = context.WithCancel(t.Context())
		defer cancel()
		resp, err = p.client.Do(p.handle(ctx, forever))
		require.NoError(t, err)
		time.AfterFunc(time.Second, func() { _ = resp.Body.Close() })
		_, err = io.ReadAll(resp.Body)
		require.ErrorContains(t, err, "closed response body")
		_, err = resp.Body.Read(make([]byte, 1))
		require.Error(t, err)
	})
}

// An answer that nobody reads must not block the handler: in a bubble that would be a
// deadlock.
func TestTransportUnreadAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlatform(t)
		done := false
		_, err := p.client.Do(p.handle(t.Context(), func(w http.ResponseWriter, _ *http.Request) {
			for range 100 {
				_, _ = w.Write(make([]byte, 1<<16))
			}
			done = true
		}))
		require.NoError(t, err)
		synctest.Wait()
		assert.True(t, done)
	})
}

func TestTransportServerView(t *testing.T) {
	p := newPlatform(t)
	p.client.Transport = p.TransportFrom("1.2.3.4")
	var seen *http.Request
	req := p.handle(t.Context(), func(_ http.ResponseWriter, r *http.Request) { seen = r })
	sent := req.Clone(t.Context())
	resp, err := p.client.Do(req)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	assert.Equal(t, 200, resp.StatusCode, "a handler that writes nothing")
	assert.Equal(t, "1.2.3.4:40000", seen.RemoteAddr)
	assert.Equal(t, "api.weixin.qq.com", seen.Host)
	assert.Equal(t, req.URL.RequestURI(), seen.RequestURI)
	assert.Empty(t, seen.URL.Host)
	assert.Same(t, req, resp.Request)
	assert.Equal(t, sent, req, "the request is not changed")
}

type closeCounter struct {
	io.Reader
	closed chan struct{}
}

func (c closeCounter) Close() error { close(c.closed); return nil }

func TestTransportContextEndedBefore(t *testing.T) {
	p := newPlatform(t)
	cause := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(cause)
	req := p.handle(ctx, func(http.ResponseWriter, *http.Request) { t.Error("called") })
	body := closeCounter{strings.NewReader("x"), make(chan struct{})}
	req.Body = body
	_, err := p.Transport().RoundTrip(req)
	require.ErrorIs(t, err, cause)
	<-body.closed
}

func TestTransportHandlerPanics(t *testing.T) {
	p := newPlatform(t)
	req := p.handle(t.Context(), func(http.ResponseWriter, *http.Request) { panic("oops") })
	body := closeCounter{strings.NewReader("x"), make(chan struct{})}
	req.Body = body
	_, err := p.client.Do(req)
	require.ErrorContains(t, err, "wxtest: handler panicked: oops")
	<-body.closed
}
