package wxtest_test

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken/wxtest"
)

// Each fault once, on a request for a token: what the client sees, whether a
// token was issued, and how it is counted.
func TestFaults(t *testing.T) {
	tests := []struct {
		fault  wxtest.Fault
		name   string
		issued bool
		count  wxtest.Tally
		status int
		ctype  string
		body   string // regexp
	}{
		{wxtest.Busy(), "errcode -1", false, wxtest.Tally{-1: 1}, 200, "application/json", `^{"errcode":-1,"errmsg":"system error rid: [0-9a-f-]{26}"}$`},
		{wxtest.Denial(45009), "errcode 45009", false, wxtest.Tally{45009: 1}, 200, "application/json", `"errcode":45009`},
		{wxtest.Busy().Applied(), "errcode -1", true, wxtest.Tally{0: 1}, 200, "application/json", `"errcode":-1`},
		{wxtest.ServerError(502), "server error", false, wxtest.Tally{wxtest.Spoiled: 1}, 502, "text/html", `<title>502 Bad Gateway</title>`},
		{wxtest.ServerError(503).Applied(), "server error", true, wxtest.Tally{0: 1}, 503, "text/html", `503`},
		{wxtest.CaptivePortal(), "captive portal", false, wxtest.Tally{wxtest.Spoiled: 1}, 200, "text/html", `^<!DOCTYPE html>`},
		{wxtest.EmptyBody(), "empty body", false, wxtest.Tally{wxtest.Spoiled: 1}, 200, "text/html", `^$`},
		{wxtest.Truncated(), "truncated", true, wxtest.Tally{0: 1}, 200, "application/json", `^{"access_token":"[\w-]+$`},
		{wxtest.Answer(418, "text/plain", "I'm a teapot"), "answer", false, wxtest.Tally{wxtest.Spoiled: 1}, 418, "text/plain", `^I'm a teapot$`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := newPlatform(t)
			p.Inject(tt.fault.Times(1))
			resp, body := fetchPage(t, p.client, fetchWx1)
			assert.Equal(t, tt.status, resp.StatusCode)
			assert.True(t, strings.HasPrefix(resp.Header.Get("Content-Type"), tt.ctype))
			assert.Regexp(t, tt.body, body)
			assert.EqualValues(t, len(body), resp.ContentLength)

			assert.Equal(t, tt.issued, p.Latest("wx1") != "")
			assert.Equal(t, tt.name, tt.fault.String())
			assert.Equal(t, map[string]int{tt.name: 1}, p.Stats().Faults)
			assert.Equal(t, tt.count, p.Stats().Fetches())
			p.fetch() // the fault is over
		})
	}
}

func TestZeroFaultDoesNothing(t *testing.T) {
	p := newPlatform(t)
	p.Inject(wxtest.Fault{})
	p.fetch()
	assert.Empty(t, p.Stats().Faults)
}

func TestLatency(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlatform(t)
		p.Inject(wxtest.Latency(time.Second))
		p.Inject(wxtest.Latency(2 * time.Second).On(wxtest.TokenCalls))
		p.Inject(wxtest.Busy().On(wxtest.BusinessCalls))
		begun := time.Now()
		token := p.fetch()
		assert.Equal(t, 3*time.Second, time.Since(begun), "they add up")
		assert.Equal(t, -1, p.call(token))
		assert.Equal(t, 4*time.Second, time.Since(begun), "and combine with others")
		assert.Equal(t, map[string]int{"latency": 3, "errcode -1": 1}, p.Stats().Faults)
	})
}

func TestLatencyEndsWithTheContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlatform(t)
		p.Inject(wxtest.Latency(time.Hour))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, fetchWx1, nil)
		require.NoError(t, err)
		begun := time.Now()
		_, err = p.client.Do(req)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		assert.Equal(t, time.Second, time.Since(begun))
		synctest.Wait()
		assert.NotEmpty(t, p.Latest("wx1"), "the request was on its way")
		assert.Equal(t, time.Second, time.Since(begun))
	})
}

func TestLateRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlatform(t)
		lift := p.Inject(wxtest.LateRequest(10 * time.Second))
		begun := time.Now()
		_, err := get(p.client, fetchWx1)
		require.ErrorIs(t, err, io.ErrUnexpectedEOF)
		body := `{"grant_type":"client_credential","appid":"wx1","secret":"s3cret"}`
		_, err = p.client.Post(api+wxtest.StablePath, "application/json", strings.NewReader(body))
		require.ErrorIs(t, err, io.ErrUnexpectedEOF)
		assert.Zero(t, time.Since(begun), "the client gets the error at once")
		lift()

		token := p.fetch()
		time.Sleep(10*time.Second - 1)
		synctest.Wait()
		assert.Equal(t, token, p.Latest("wx1"))
		assert.Empty(t, p.LatestStable("wx1"))
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		assert.NotEqual(t, token, p.Latest("wx1"), "it arrived, and superseded the one in use")
		assert.NotEmpty(t, p.LatestStable("wx1"))
		assert.Equal(t, wxtest.Tally{0: 3}, p.Stats().Fetches())
	})
}

func TestLateRequestIsDroppedOnClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlatform(t)
		p.Inject(wxtest.LateRequest(time.Second))
		_, err := get(p.client, fetchWx1)
		require.ErrorIs(t, err, io.ErrUnexpectedEOF)
		p.ForgetLate()
		time.Sleep(time.Minute)
		assert.Empty(t, p.Latest("wx1"))
	})
}

func TestOn(t *testing.T) {
	p := newPlatform(t)
	token := p.fetch()
	struck := func(where string) (hit []bool) {
		defer p.Inject(wxtest.Busy().On(where))()
		return []bool{
			p.get(tokenURL("wx1", "wrong")).Errcode == -1,
			p.stable(false).Errcode == -1,
			p.call(token) == -1,
			p.get("/cgi-bin/media/get?access_token="+token).Errcode == -1,
		}
	}
	assert.Equal(t, []bool{true, true, true, true}, struck(""))
	assert.Equal(t, []bool{true, true, false, false}, struck(wxtest.TokenCalls))
	assert.Equal(t, []bool{false, false, true, true}, struck(wxtest.BusinessCalls))
	assert.Equal(t, []bool{false, true, false, false}, struck(wxtest.StablePath))
	assert.Equal(t, []bool{false, false, false, true}, struck("/cgi-bin/media/get"))
}

func TestTimesAndOrder(t *testing.T) {
	p := newPlatform(t)
	p.Inject(wxtest.Denial(1001).Times(2))
	lift := p.Inject(wxtest.Denial(1002))
	p.Inject(wxtest.Denial(1003).Times(1))
	code := func() int { return p.get(tokenURL("wx1", "s3cret")).Errcode }
	assert.Equal(t, []int{1001, 1001, 1002, 1002}, []int{code(), code(), code(), code()})
	lift()
	assert.Equal(t, []int{1003, 0}, []int{code(), code()})
	lift() // a second call is harmless
}

func TestRateIsSeeded(t *testing.T) {
	run := func(opts ...wxtest.Option) (codes []int) {
		p := newPlatform(t, opts...)
		p.Inject(wxtest.Denial(40001).On(wxtest.BusinessCalls).Rate(0.3))
		token := p.fetch()
		for range 500 {
			codes = append(codes, p.call(token))
		}
		n := p.Stats().Calls()[40001]
		assert.True(t, 100 < n && n < 200, "%d of 500", n)
		return codes
	}
	assert.Equal(t, run(), run())
	assert.Equal(t, run(wxtest.WithSeed(7)), run(wxtest.WithSeed(7)))
	assert.NotEqual(t, run(wxtest.WithSeed(7)), run(wxtest.WithSeed(8)))
}
