package endpoint

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken/internal/fetchtest"
)

// plain returns an Endpoint like cgi-bin/token, using rt or, if that is nil, the
// default.
func plain(rt http.RoundTripper, hosts ...string) *Endpoint {
	if hosts == nil {
		hosts = []string{"http://wx.example"}
	}
	params := func(secret string) map[string]string { return map[string]string{"appid": "wx1", "secret": secret} }
	return &Endpoint{Path: "/cgi-bin/token", Field: "access_token", Params: params, Hosts: hosts, Client: &http.Client{Transport: rt}}
}

// stable returns one like cgi-bin/stable_token.
func stable(rt http.RoundTripper) *Endpoint {
	e := plain(rt)
	e.Post, e.Repeatable = true, true
	return e
}

type token struct {
	Value     string
	ExpiresAt time.Time
}

// fetch calls e.Fetch with ctx or, if that has no deadline, for ten seconds.
func fetch(ctx context.Context, e *Endpoint) (token, error) {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
	}
	value, expiresAt, err := e.Fetch(ctx, fetchtest.Secret)
	return token{value, expiresAt}, err
}

// outcome names what the error of a fetch means.
func outcome(err error) string {
	var denied *Denial
	var unsent *Unsent
	switch {
	case err == nil:
		return "issued"
	case errors.As(err, &denied):
		return "denied"
	case errors.As(err, &unsent):
		return "not sent"
	}
	return "unknown"
}

// A roundTripper is a transport that does not support httptrace.
type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func respond(status int, body string) *http.Response {
	return &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body))}
}

// What is sent, through http.Transport and through any other RoundTripper, which
// could resend what it can rewind.
func TestRequests(t *testing.T) {
	const object = `{"appid":"wx1","secret":"MarkedSecret/with+odd\u0026signs%\"0123456789"}`
	form := url.Values{"appid": {"wx1"}, "secret": {fetchtest.Secret}}.Encode()
	for name, test := range map[string]struct {
		endpoint            Endpoint
		method, uri         string
		contentType, body   string
		rewindableElsewhere bool
	}{
		"GET":                 {Endpoint{Path: "/t"}, "GET", "/t?" + form, "", "", false},
		"GET, repeatable":     {Endpoint{Path: "/t", Repeatable: true}, "GET", "/t?" + form, "", "", false},
		"GET, with a query":   {Endpoint{Path: "/t/", Query: "v=2&&w"}, "GET", "/t/?v=2&&w&" + form, "", "", false},
		"JSON":                {Endpoint{Path: "/t/", Post: true}, "POST", "/t/", "application/json", object, false},
		"JSON, repeatable":    {Endpoint{Path: "/a%2Fb", Post: true, Repeatable: true}, "POST", "/a%2Fb", "application/json", object, true},
		"form":                {Endpoint{Path: "/t", Post: true, Form: true}, "POST", "/t", "application/x-www-form-urlencoded", form, false},
		"form, with a query":  {Endpoint{Path: "/t", Post: true, Form: true, Query: "v=2"}, "POST", "/t?v=2", "application/x-www-form-urlencoded", form, false},
		"form and repeatable": {Endpoint{Path: "/t", Post: true, Form: true, Repeatable: true}, "POST", "/t", "application/x-www-form-urlencoded", form, true},
	} {
		t.Run(name, func(t *testing.T) {
			base, requests := fetchtest.Serve(t, func(w http.ResponseWriter, r *http.Request) {
				body, err := io.ReadAll(r.Body)
				assert.NoError(t, err)
				assert.Equal(t, test.body, string(body))
				assert.Equal(t, test.method, r.Method)
				assert.Equal(t, test.uri, r.RequestURI)
				assert.Equal(t, test.contentType, r.Header.Get("Content-Type"))
				assert.Equal(t, int64(len(test.body)), r.ContentLength)
				fetchtest.Answer(200, fetchtest.Good)(w, r)
			})
			other := roundTripper(func(r *http.Request) (*http.Response, error) {
				assert.Equal(t, test.rewindableElsewhere, r.GetBody != nil)
				return http.DefaultTransport.RoundTrip(r)
			})
			for _, rt := range []http.RoundTripper{http.DefaultTransport, other} {
				e := test.endpoint
				e.Field, e.Params, e.Hosts, e.Client = "access_token", plain(nil).Params, []string{base}, &http.Client{Transport: rt}
				_, err := fetch(t.Context(), &e)
				assert.NoError(t, err)
			}
			assert.EqualValues(t, 2, requests.Load())
		})
	}
}

// If any parameter may be the secret, no error shows one, nor what the URL contains.
func TestAllSecret(t *testing.T) {
	base, _ := fetchtest.Serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "cannot read %s %s", r.RequestURI, body)
	})
	params := func(string) map[string]string { return map[string]string{"id": "an-id", "key": fetchtest.Secret} }
	for _, e := range []Endpoint{{}, {Post: true}, {Post: true, Form: true}} {
		e.Path, e.Query, e.Field, e.Params, e.AllSecret, e.Hosts = "/t", "k=query+key", "access_token", params, true, []string{base}
		_, err := fetch(t.Context(), &e)
		require.ErrorContains(t, err, "cannot read /t?k=***")
		assert.NotContains(t, err.Error(), "an-id")
		fetchtest.NoLeak(t, err)
	}
}

func TestFetchRetries(t *testing.T) {
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
		"busy three times":        {false, []roundTripper{reply(200, busy), reply(503, busy), reply(200, busy)}, 3, "denied"},
		"minute quota":            {false, []roundTripper{reply(200, minute)}, 1, "denied"},
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
		"stable, wrong secret":    {true, []roundTripper{reply(200, `{"errcode":40125}`)}, 1, "denied"},
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
	failing := func(fail func(*http.Request) error) *Endpoint {
		return plain(roundTripper(func(r *http.Request) (*http.Response, error) {
			<-r.Context().Done()
			return nil, fail(r)
		}))
	}
	withURL := func(r *http.Request) error {
		return &url.Error{Op: "Get", URL: r.URL.String(), Err: r.Context().Err()}
	}
	hanging, impatient := failing(withURL), failing(withURL)
	impatient.Client.Timeout = 3 * time.Second
	causing := failing(func(r *http.Request) error { return context.Cause(r.Context()) })
	busy := plain(roundTripper(func(*http.Request) (*http.Response, error) { return respond(200, `{"errcode":-1}`), nil }))
	reset := errors.New("stream reset")
	stuck := stable(roundTripper(func(r *http.Request) (*http.Response, error) {
		resp := respond(200, "")
		resp.Body = io.NopCloser(io.MultiReader(strings.NewReader(fetchtest.Good[:20]), readerFunc(func([]byte) (int, error) {
			<-r.Context().Done()
			return 0, reset
		})))
		return resp, nil
	}))

	type limit func(context.Context) (context.Context, context.CancelFunc)
	late := errors.New("too late")
	within := func(d time.Duration) limit {
		return func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeoutCause(ctx, d, late)
		}
	}
	cancelled := func(ctx context.Context) (context.Context, context.CancelFunc) {
		ctx, cancel := context.WithCancel(ctx)
		cancel()
		return ctx, cancel
	}
	cancelledIn50ms := func(ctx context.Context) (context.Context, context.CancelFunc) {
		ctx, cancel := context.WithCancel(ctx)
		time.AfterFunc(50*time.Millisecond, cancel)
		return ctx, cancel
	}
	for name, test := range map[string]struct {
		endpoint *Endpoint
		limit    limit
		want     string
		took     time.Duration
		is       []error
	}{
		"deadline":                     {hanging, within(10 * time.Second), "unknown", 10 * time.Second, []error{context.DeadlineExceeded}},
		"client's timeout":             {impatient, within(10 * time.Second), "unknown", 3 * time.Second, []error{context.DeadlineExceeded}},
		"cause of its own":             {causing, within(time.Second), "unknown", time.Second, []error{late, context.DeadlineExceeded}},
		"in mid-answer":                {stuck, within(10 * time.Second), "unknown", 10 * time.Second, []error{reset, context.DeadlineExceeded}},
		"ended before":                 {hanging, cancelled, "not sent", 0, []error{context.Canceled}},
		"cancelled between tries":      {busy, cancelledIn50ms, "denied", 50 * time.Millisecond, nil},
		"deadline before the next try": {busy, within(99 * time.Millisecond), "denied", 0, nil},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := test.limit(t.Context())
				defer cancel()
				start := time.Now()
				_, err := fetch(ctx, test.endpoint)
				assert.Equal(t, test.want, outcome(err), err)
				assert.Equal(t, test.took, time.Since(start))
				for _, is := range test.is {
					assert.ErrorIs(t, err, is)
				}
				fetchtest.NoLeak(t, err)
			})
		})
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }
