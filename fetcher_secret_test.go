package wxtoken

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken/internal/endpoint"
	"github.com/wxtoken/wxtoken/internal/fetchtest"
	"github.com/wxtoken/wxtoken/wxtest"
)

func TestFingerprint(t *testing.T) {
	f, same, other := NewFetcher("wx1", "a"), NewStableFetcher("wx2", "a"), NewFetcher("wx1", "b")
	assert.Regexp(t, "^[0-9a-f]{16}$", f.fingerprint("salt"))
	assert.Equal(t, f.fingerprint("salt"), same.fingerprint("salt"))
	assert.NotEqual(t, f.fingerprint("salt"), other.fingerprint("salt"))
	assert.NotEqual(t, f.fingerprint("salt"), f.fingerprint("pepper"))
	assert.Empty(t, NewFetcher("wx1", "").fingerprint("salt"))

	for _, f := range []*HTTPFetcher{f, ticketFetcher(&fakeTokens{}, "jsapi"), new(HTTPFetcher)} {
		now, err := f.currentFingerprint(t.Context(), "salt")
		assert.NoError(t, err)
		assert.Equal(t, f.fingerprint("salt"), now)
	}
	assert.Empty(t, ticketFetcher(&fakeTokens{}, "jsapi").fingerprint("salt"))

	endpointOf := func(secret string) *HTTPFetcher {
		return NewEndpointFetcher("mine", Endpoint{Params: map[string]string{"id": "1", "secret": secret}})
	}
	assert.Equal(t, endpointOf("a").fingerprint("salt"), endpointOf("a").fingerprint("salt"))
	assert.NotEqual(t, endpointOf("a").fingerprint("salt"), endpointOf("b").fingerprint("salt"))
}

// A vault is what a function of WithSecretFunc asks.
type vault struct {
	mu     sync.Mutex
	secret string
	asked  int
}

func (v *vault) set(secret string) { v.mu.Lock(); v.secret = secret; v.mu.Unlock() }
func (v *vault) get(context.Context) (string, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.asked++
	return v.secret, nil
}

// withSecretFunc makes one fetcher of each kind that has a secret.
func withSecretFunc(secret string, opts ...FetcherOption) map[string]*HTTPFetcher {
	e := Endpoint{
		URL: "https://platform.example/token", Params: map[string]string{"id": "1", "auth": "Basic {secret}"},
		Token: "access_token", ExpiresIn: "expires_in", Code: "errcode",
	}
	return map[string]*HTTPFetcher{
		"token": NewFetcher("wx1", secret, opts...), "stable": NewStableFetcher("wx1", secret, opts...),
		"QQ": NewQQFetcher("1105", secret, opts...), "wecom": NewWeComFetcher("ww1", secret, opts...),
		"endpoint": NewEndpointFetcher("mine", e, opts...),
	}
}

func TestSecretFunc(t *testing.T) {
	var sent string
	base, requests := fetchtest.Serve(t, func(w http.ResponseWriter, r *http.Request) {
		_ = r.ParseForm()
		body := make([]byte, 1000)
		n, _ := r.Body.Read(body)
		sent = r.Form.Encode() + " " + string(body[:n])
		fetchtest.Answer(200, fetchtest.Good)(w, r)
	})
	for name := range withSecretFunc("") {
		t.Run(name, func(t *testing.T) {
			v := &vault{}
			f := withSecretFunc("argument", WithBaseURL(base), WithSecretFunc(v.get))[name]
			assert.Zero(t, v.asked, "asked before a fetch")
			assert.Empty(t, f.fingerprint("salt"))
			for _, secret := range []string{"first-secret", "second-secret", "second-secret", "third-secret"} {
				v.set(secret)
				before := f.fingerprint("salt")
				now, err := f.currentFingerprint(t.Context(), "salt")
				require.NoError(t, err)
				assert.Equal(t, NewFetcher("wx1", secret).fingerprint("salt"), now)
				assert.Equal(t, before, f.fingerprint("salt"), "the one of the last fetch")

				asked := v.asked
				_, err = f.Fetch(t.Context())
				require.NoError(t, err)
				assert.Equal(t, asked+1, v.asked)
				assert.Equal(t, 1, strings.Count(sent, secret), sent)
				assert.NotContains(t, sent, "argument")
				assert.Equal(t, now, f.fingerprint("salt"))
				assert.NotContains(t, fmt.Sprintf("%+v %#v", f, *f), secret)
			}
			assert.EqualValues(t, 4, requests.Swap(0))
		})
	}
}

// The argument names the agent; the secret may change, the record may not.
func TestSecretFuncLeavesWeComKeys(t *testing.T) {
	v := &vault{secret: "of-today"}
	a, b := NewWeComFetcher("ww1", "1000002", WithSecretFunc(v.get)), NewWeComFetcher("ww1", "1000003", WithSecretFunc(v.get))
	assert.Equal(t, NewWeComFetcher("ww1", "1000002").Key(), a.Key())
	assert.NotEqual(t, a.Key(), b.Key())
	_, err := NewWeComFetcher("ww1", "", WithSecretFunc(v.get)).Fetch(t.Context())
	assert.EqualError(t, err, "wxtoken: secret is empty; nothing was sent")
}

func TestBadSecretFunc(t *testing.T) {
	const long = "0123456789abcdef0123456789abcdef" // as WeChat's secrets are
	sealed := errors.New("vault is sealed")
	type fn = func(context.Context) (string, error)
	gives := func(secret string, err error) fn {
		return func(context.Context) (string, error) { return secret, err }
	}
	for name, test := range map[string]struct {
		fn   fn
		want string
		is   error
		took time.Duration
	}{
		"error":             {gives("", fmt.Errorf("read: %w", sealed)), "no secret from the function of WithSecretFunc; nothing was sent: read: vault is sealed", sealed, 0},
		"error with secret": {gives(fetchtest.Secret, errors.New("lease of "+fetchtest.Secret+" is over")), "lease of *** is over", nil, 0},
		"error in other forms": {gives(fetchtest.Secret, fmt.Errorf("%q %s", fetchtest.Secret, url.QueryEscape(fetchtest.Secret))),
			`"***" ***`, nil, 0},
		"error with URL":     {gives("", &url.Error{Op: "Get", URL: "http://vault/?x=" + fetchtest.Secret, Err: sealed}), "vault is sealed", sealed, 0},
		"error with unknown": {gives("", errors.New("cannot decode "+long)), "cannot decode ***", nil, 0},
		"panic":              {func(context.Context) (string, error) { panic(fetchtest.Secret) }, "panicked with a string", nil, 0},
		"panic with error":   {func(context.Context) (string, error) { panic(errors.New(fetchtest.Secret)) }, "panicked with a *errors.errorString", nil, 0},
		"runtime error":      {func(context.Context) (string, error) { return strings.Fields("")[0], nil }, "index out of range", nil, 0},
		"Goexit":             {func(context.Context) (string, error) { runtime.Goexit(); return "", nil }, "ended its goroutine", nil, 0},
		"empty":              {gives("", nil), "what the function of WithSecretFunc returned is empty", nil, 0},
		"blank":              {gives("  ", nil), "returned holds a space", nil, 0},
		"newline":            {gives(fetchtest.Secret+"\n", nil), "returned holds a space, a control byte", nil, 0},
		"control byte":       {gives("a\x00b", nil), "holds a space, a control byte", nil, 0},
		"not ASCII":          {gives("sécret", nil), "not ASCII", nil, 0},
		"hangs": {func(ctx context.Context) (string, error) { <-ctx.Done(); return "", ctx.Err() },
			"context deadline exceeded", context.DeadlineExceeded, 5 * time.Second},
		"hangs, whatever ctx does": {func(context.Context) (string, error) { time.Sleep(time.Minute); return fetchtest.Secret, nil },
			"did not return in time", context.DeadlineExceeded, 5 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := wxtest.NewPlatform(wxtest.WithApp("wx1", fetchtest.Secret))
				for kind, f := range withSecretFunc("argument", WithHTTPClient(p.Client()), WithSecretFunc(test.fn)) {
					start := time.Now()
					tok, err := f.Fetch(t.Context())
					require.ErrorContains(t, err, test.want, kind)
					assert.Equal(t, test.took, time.Since(start), "half of the ten seconds of a fetch")
					assert.ErrorContains(t, err, "nothing was sent")
					assert.True(t, strings.HasPrefix(err.Error(), "wxtoken: "), err)
					assert.Equal(t, "not sent", outcome(err))
					assert.Zero(t, tok)
					if test.is != nil {
						assert.ErrorIs(t, err, test.is)
					}
					fetchtest.NoLeak(t, err)
					assert.NotContains(t, err.Error(), long)
					assert.Empty(t, f.fingerprint("salt"))

					_, err = f.currentFingerprint(t.Context(), "salt")
					assert.ErrorContains(t, err, test.want)
					fetchtest.NoLeak(t, err)
				}
				assert.Zero(t, p.Stats().Fetches().Total())
				time.Sleep(time.Minute) // until what hangs is over
			})
		})
	}
}

func TestSecretFuncEndsWithContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	f := NewFetcher("wx1", "", WithSecretFunc(func(ctx context.Context) (string, error) {
		cancel()
		<-ctx.Done()
		return "", ctx.Err()
	}))
	for range 2 { // the second time, ctx has ended before
		_, err := f.Fetch(ctx)
		assert.ErrorIs(t, err, context.Canceled)
		assert.Equal(t, "not sent", outcome(err))
	}
}

func TestSecretFuncWhereThereIsNone(t *testing.T) {
	v := &vault{secret: "s"}
	for want, f := range map[string]*HTTPFetcher{
		"WithSecretFunc: nil function":       NewFetcher("wx1", fetchtest.Secret, WithSecretFunc(nil)),
		"a ticket needs an access token":     ticketFetcher(&fakeTokens{values: []string{"a"}}, "jsapi", WithSecretFunc(v.get)),
		"WithSecretFunc needs {secret} in":   NewEndpointFetcher("k", Endpoint{URL: "https://h/", Token: "t", ExpiresIn: "e"}, WithSecretFunc(v.get)),
		"Endpoint.Params has {secret}: give": NewEndpointFetcher("k", Endpoint{URL: "https://h/", Token: "t", ExpiresIn: "e", Params: map[string]string{"s": "{secret}"}}),
	} {
		_, err := f.Fetch(t.Context())
		require.ErrorContains(t, err, want)
		assert.ErrorContains(t, err, "nothing was sent")
		var unsent *endpoint.Unsent
		assert.ErrorAs(t, err, &unsent)
	}
	assert.Zero(t, v.asked)
}

// While no fetch is allowed because the platform denied the secret, the function
// is asked now and then, and another secret is used at once.
func TestANewSecretEndsTheCooldown(t *testing.T) {
	for name := range withSecretFunc("") {
		if name == "endpoint" { // whose host is another one
			continue
		}
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := wxtest.NewPlatform(wxtest.WithApp("wx1", "right"), wxtest.WithApp("1105", "right"))
				p.AddCorp("ww1", "right")
				v := &vault{secret: "wrong"}
				src := New(withSecretFunc("argument", WithHTTPClient(p.Client()), WithSecretFunc(v.get))[name], nil)
				var denied *APIError
				for range 300 { // for 30 s, of the minute that the cooldown lasts at first
					_, err := src.Token(t.Context())
					require.ErrorAs(t, err, &denied)
					time.Sleep(100 * time.Millisecond)
				}
				assert.Equal(t, 1, p.Stats().Fetches().Total(), "the platform was asked again with the same secret")
				assert.LessOrEqual(t, v.asked, 1+30/2, "more than once in 2 s")
				assert.GreaterOrEqual(t, v.asked, 8, "so seldom that a new secret is not noticed")

				v.set("wrong too")
				time.Sleep(5 * time.Second)
				_, err := src.Token(t.Context())
				require.Error(t, err)
				v.set("wrong-too")
				time.Sleep(5 * time.Second)
				_, err = src.Token(t.Context())
				require.ErrorAs(t, err, &denied)
				assert.Equal(t, 2, p.Stats().Fetches().Total())

				v.set("right")
				time.Sleep(5 * time.Second)
				tok, err := src.Token(t.Context())
				require.NoError(t, err)
				assert.True(t, p.Honoured(tok.Value))
				assert.Equal(t, 3, p.Stats().Fetches().Total())
			})
		})
	}
}

// A fetcher keeps a fingerprint of the secret, and not the secret: the memory of
// each one is free for others after the fetch.
func TestSecretFuncKeepsNothing(t *testing.T) {
	var freed atomic.Int32
	fn := func(context.Context) (string, error) {
		secret := bytes.Repeat([]byte("s"), 100)
		runtime.AddCleanup(&secret[0], func(int) { freed.Add(1) }, 0)
		return unsafe.String(&secret[0], len(secret)), nil
	}
	base, _ := fetchtest.Serve(t, fetchtest.Answer(200, fetchtest.Good))
	fetchers := withSecretFunc("argument", WithBaseURL(base), WithSecretFunc(fn))
	for name, f := range fetchers {
		_, err := f.Fetch(t.Context())
		require.NoError(t, err, name)
	}
	assert.Eventually(t, func() bool { runtime.GC(); return int(freed.Load()) == len(fetchers) }, 10*time.Second, time.Millisecond)
	for name, f := range fetchers {
		assert.NotEmpty(t, f.fingerprint("salt"), name)
	}
}
