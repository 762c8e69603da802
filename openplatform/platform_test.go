package openplatform_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken"
	"github.com/wxtoken/wxtoken/openplatform"
	"github.com/wxtoken/wxtoken/wxtest"
)

// A recorder records what is written to a cache.
type recorder struct {
	wxtoken.Cache
	mu     sync.Mutex
	values map[string]string
	ttls   map[string]time.Duration
}

func (r *recorder) CompareAndSwap(ctx context.Context, key string, old, new []byte, ttl time.Duration) (bool, error) {
	r.mu.Lock()
	if r.values == nil {
		r.values, r.ttls = map[string]string{}, map[string]time.Duration{}
	}
	r.values[key] += string(new)
	r.ttls[key] = ttl
	r.mu.Unlock()
	return r.Cache.CompareAndSwap(ctx, key, old, new, ttl)
}

func TestPrefixAndEncryptionHoldForAllThatIsCached(t *testing.T) {
	for _, keys := range [][][32]byte{nil, {{1}}, {{2}, {1}}} {
		bubble(t, fmt.Sprint(len(keys), " keys"), func(t *testing.T) {
			w := newWorld(t)
			kept := &recorder{Cache: w.cache}
			w.cache = kept
			options := []wxtoken.Option{wxtoken.WithKeyPrefix("mine:")}
			if keys != nil {
				options = append(options, wxtoken.WithEncryption(keys...))
			}
			p := w.ready(openplatform.WithSourceOptions(options...))
			w.authorize("wx1")
			token(t, p.Authorizer("wx1"))
			ticket := w.IssueTicket(compID)
			require.NoError(t, p.SetTicket(t.Context(), ticket))
			_, err := w.process(openplatform.WithSourceOptions(wxtoken.WithKeyPrefix("empty:"))).Source().Token(t.Context())
			require.Error(t, err) // records that pushes were asked for

			all := strings.Builder{}
			for key, value := range kept.values {
				if !strings.HasPrefix(key, "empty:") {
					assert.True(t, strings.HasPrefix(key, "mine:"), key)
				}
				assert.NotContains(t, key, w.RefreshToken(compID, "wx1"))
				all.WriteString(value)
			}
			assert.Equal(t, 12*time.Hour, kept.ttls["mine:component_ticket:"+compID])
			assert.Equal(t, keys == nil, strings.Contains(all.String(), w.RefreshToken(compID, "wx1")))
			assert.Equal(t, keys == nil, strings.Contains(all.String(), ticket))
			assert.NotContains(t, all.String(), secret)

			if keys != nil { // a process without the key leaves the values alone
				p := w.process(openplatform.WithSourceOptions(wxtoken.WithKeyPrefix("mine:")))
				assert.Error(t, p.SetTicket(t.Context(), "ticket@@@2"))
				_, err := p.Authorizer("wx1").Token(t.Context())
				assert.Error(t, err)
				again := w.process(openplatform.WithSourceOptions(wxtoken.WithKeyPrefix("mine:"), wxtoken.WithEncryption(append([][32]byte{{9}}, keys...)...)))
				assert.Equal(t, w.LatestAuthorizer(compID, "wx1"), token(t, again.Authorizer("wx1")), "keys can be rotated")

				raw, err := kept.Get(t.Context(), "mine:authorization:"+compID+":wx1")
				require.NoError(t, err)
				moved, err := w.cache.CompareAndSwap(t.Context(), "mine:authorization:"+compID+":wx2", nil, raw, time.Hour)
				require.True(t, moved && err == nil)
				_, err = again.Authorizer("wx2").Token(t.Context())
				assert.ErrorContains(t, err, "sealed", "a sealed value opens only under its own key")
			}
		})
	}
}

func TestAPlainValueIsNotTrustedWhereKeysAreSet(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		w := newWorld(t)
		w.ready()
		p := w.process(openplatform.WithSourceOptions(wxtoken.WithEncryption([32]byte{1})))
		_, err := p.Source().Token(t.Context())
		assert.ErrorContains(t, err, "is not sealed")
		assert.Empty(t, w.sent(wxtest.ComponentPath))

		p = w.process(openplatform.WithSourceOptions(wxtoken.WithEncryption([32]byte{1}), wxtoken.WithPlainRecords()))
		assert.NotEmpty(t, token(t, p.Source()), "while encryption is being switched on")
	})
}

func TestForeignBytesInTheCacheAreOverwritten(t *testing.T) {
	for _, text := range []string{"", "x", "{}", `{"v":1,"value":{"ticket":5}}`, `{"v":1,"value":` + strings.Repeat(" ", 20<<10) + `{}}`} {
		bubble(t, fmt.Sprintf("%.20q", text), func(t *testing.T) {
			w := newWorld(t)
			for _, name := range []string{"component_ticket:" + compID, "component_push:" + compID, "authorization:" + compID + ":wx1"} {
				stored, err := w.cache.CompareAndSwap(t.Context(), "wxtoken:"+name, nil, []byte(text), time.Hour)
				require.True(t, stored && err == nil)
			}
			p := w.ready()
			w.authorize("wx1")
			assert.True(t, w.Honoured(token(t, p.Authorizer("wx1"))))
		})
	}
}

func TestCacheFails(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		w := newWorld(t)
		down := &failingCache{Cache: w.cache}
		w.cache = down
		p := w.ready()
		w.authorize("wx1")
		down.err = errors.New("connection refused")
		assert.ErrorContains(t, w.PushTicket(compID, hook), "status 500")
		_, err := w.PushAuthorized(compID, "wx2", hook)
		assert.ErrorContains(t, err, "status 500")
		_, err = p.Authorize(t.Context(), "code")
		assert.ErrorIs(t, err, wxtoken.ErrCacheUnavailable)
		_, err = p.Authorizer("wx1").Token(t.Context())
		assert.ErrorIs(t, err, wxtoken.ErrCacheUnavailable)
		assert.Empty(t, w.sent(wxtest.AuthorizerPath))

		down.err = nil
		time.Sleep(time.Minute)
		assert.True(t, w.Honoured(token(t, p.Authorizer("wx1"))))
	})
}

type failingCache struct {
	wxtoken.Cache
	err error
}

func (f *failingCache) Get(ctx context.Context, key string) ([]byte, error) {
	if f.err != nil {
		return nil, f.err
	}
	return f.Cache.Get(ctx, key)
}

func (f *failingCache) CompareAndSwap(ctx context.Context, key string, old, new []byte, ttl time.Duration) (bool, error) {
	if f.err != nil {
		return false, f.err
	}
	return f.Cache.CompareAndSwap(ctx, key, old, new, ttl)
}

func TestBadConfigurationIsAnErrorAndNothingIsSent(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		for name, test := range map[string]struct {
			p    *openplatform.Platform
			want string
		}{
			"no appID":  {openplatform.New("", secret, nil), "component appID is empty"},
			"no secret": {openplatform.New(compID, "", nil), "secret is empty"},
			"newline":   {openplatform.New(compID, secret+"\n", nil), "secret holds a space"},
			"base URL": {openplatform.New(compID, secret, nil, openplatform.WithFetcherOptions(wxtoken.WithBaseURL("api.weixin.qq.com"))),
				"WithBaseURL: URL 1 is not"},
			"long prefix": {openplatform.New(compID, secret, nil, openplatform.WithSourceOptions(wxtoken.WithKeyPrefix(strings.Repeat("x", 250)))), "250"},
		} {
			for _, src := range []*wxtoken.Source{test.p.Source(), test.p.Authorizer("wx1")} {
				_, err := src.Token(t.Context())
				assert.ErrorContains(t, err, test.want, name)
				assert.NotContains(t, fmt.Sprint(err), secret, name)
			}
			if name != "long prefix" {
				_, err := test.p.Authorize(t.Context(), "code")
				assert.ErrorContains(t, err, test.want, name)
			}
		}
	})
}

func TestSourcesServeTransportsAndTickets(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		w := newWorld(t)
		p := w.ready()
		w.authorize("wx1")
		client := &http.Client{Transport: &wxtoken.Transport{Source: p.Authorizer("wx1"), Base: w.Transport()}}
		resp, err := client.Get("https://api.weixin.qq.com/cgi-bin/get_api_domain_ip")
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		assert.Equal(t, wxtest.Tally{0: 1}, w.sent("/cgi-bin/get_api_domain_ip"))

		tickets := wxtoken.New(wxtoken.NewTicketFetcher(p.Authorizer("wx1"), "jsapi", wxtoken.WithHTTPClient(w.Client())), w.cache)
		assert.NotEmpty(t, token(t, tickets))
		synctest.Wait()

		for _, src := range []*wxtoken.Source{p.Source(), p.Authorizer("wx1")} {
			client.Transport = &wxtoken.Transport{Source: src, Base: w.Transport()}
			resp, err := client.Get("https://qyapi.weixin.qq.com/cgi-bin/get_api_domain_ip")
			require.NoError(t, err)
			require.NoError(t, resp.Body.Close())
		}
		assert.Equal(t, 2, w.sent("/cgi-bin/get_api_domain_ip")[41001], "no token goes to another platform's host")

		w.Inject(wxtest.Denial(61011))
		w.cache = wxtoken.NewMemoryCache()
		p = w.process()
		require.NoError(t, p.SetTicket(t.Context(), w.IssueTicket(compID)))
		_, err = p.Source().Token(t.Context())
		assert.ErrorContains(t, err, "component_appid", "advice is the third-party platform's")
	})
}

// For the cost of an idle authorizer, see examples/manyapps.
func TestTenThousandAuthorizers(t *testing.T) {
	const many = 10_000
	w := newWorld(t)
	p := w.ready()
	for i := range asked {
		w.authorize(fmt.Sprintf("wx%05d", i))
	}
	w.cache = &forgetful{cache: w.cache}
	second := w.process()
	before := heap()
	goroutines := runtime.NumGoroutine()
	for i := range many {
		second.Authorizer(fmt.Sprintf("wx%05d", i))
	}
	each := (heap() - before) / many
	t.Logf("%d bytes for each authorizer, Source, Fetcher and map included", each)
	assert.Less(t, each, int64(4096))

	limit := make(chan struct{}, 32)
	var all sync.WaitGroup
	for i := range asked {
		limit <- struct{}{}
		all.Go(func() {
			defer func() { <-limit }()
			_, err := second.Authorizer(fmt.Sprintf("wx%05d", i)).Token(t.Context())
			assert.NoError(t, err)
		})
	}
	all.Wait()
	assert.Equal(t, wxtest.Tally{0: asked}, w.sent(wxtest.AuthorizerPath))
	assert.Equal(t, wxtest.Tally{0: 1}, w.sent(wxtest.ComponentPath))
	assert.Empty(t, w.sent(wxtest.AuthorizerListPath))
	assert.Eventually(t, func() bool { return runtime.NumGoroutine() <= goroutines+2 }, time.Minute, 10*time.Millisecond,
		"goroutines while idle (2 are this check's)")
	runtime.KeepAlive(p)
	runtime.KeepAlive(second)
}

// heap is how many bytes are in use.
func heap() int64 {
	runtime.GC()
	runtime.GC() // what a pool held survives one more
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
