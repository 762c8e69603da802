package openplatform_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken"
	"github.com/wxtoken/wxtoken/openplatform"
	"github.com/wxtoken/wxtoken/wxtest"
)

const (
	compID   = "wxcomponent"
	secret   = "component-secret-0123456789abcdef"
	msgToken = "message-token"
	aesKey   = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG"
	hook     = "https://app.example/wechat/events"
)

// bubble runs a subtest in virtual time.
func bubble(t *testing.T, name string, test func(t *testing.T)) {
	t.Helper()
	t.Run(name, func(t *testing.T) { synctest.Test(t, test) })
}

// A world is the fake platform and what the processes of the test share.
type world struct {
	*wxtest.Platform
	t     *testing.T
	cache wxtoken.Cache
}

func newWorld(t *testing.T, opts ...wxtest.Option) *world {
	opts = append([]wxtest.Option{wxtest.WithComponent(compID, secret, msgToken, aesKey)}, opts...)
	return &world{wxtest.NewPlatform(opts...), t, wxtoken.NewMemoryCache()}
}

// process returns a Platform as another process would make it.
func (w *world) process(opts ...openplatform.Option) *openplatform.Platform {
	opts = append([]openplatform.Option{
		openplatform.WithCallback(msgToken, aesKey),
		openplatform.WithFetcherOptions(wxtoken.WithHTTPClient(w.Client())),
	}, opts...)
	return openplatform.New(compID, secret, w.cache, opts...)
}

// to makes p receive the pushes.
func (w *world) to(p *openplatform.Platform) { w.PushThrough(wxtest.HandlerClient(p)) }

// ready returns a process that has received a ticket.
func (w *world) ready(opts ...openplatform.Option) *openplatform.Platform {
	p := w.process(opts...)
	w.to(p)
	require.NoError(w.t, w.PushTicket(compID, hook))
	return p
}

// authorize makes the owner of each account authorize, and delivers the push.
func (w *world) authorize(appIDs ...string) {
	w.t.Helper()
	for _, appID := range appIDs {
		_, err := w.PushAuthorized(compID, appID, hook)
		require.NoError(w.t, err)
	}
}

// delivery returns a function that delivers a push of now to p, as often as it is
// called.
func (w *world) delivery(p *openplatform.Platform, fields map[string]string) func() {
	w.t.Helper()
	push, err := w.PushRequest(compID, hook, fields)
	require.NoError(w.t, err)
	body, err := io.ReadAll(push.Body)
	require.NoError(w.t, err)
	return func() {
		push.Body = io.NopCloser(bytes.NewReader(body))
		status, text := serve(p, push)
		require.Equal(w.t, 200, status, text)
	}
}

// sent counts requests to a path, by result.
func (w *world) sent(path string) wxtest.Tally { return w.Stats().Results[path] }

// requireDenial requires that err says that the platform answered with code.
func requireDenial(t *testing.T, code int, err error) {
	t.Helper()
	var denied *wxtoken.APIError
	require.ErrorAs(t, err, &denied)
	require.Equal(t, code, denied.Code)
}

// token returns src's token, and fails the test without one.
func token(t *testing.T, src *wxtoken.Source) string {
	t.Helper()
	tok, err := src.Token(t.Context())
	require.NoError(t, err)
	return tok.Value
}

// A table is an application's own store of refresh tokens.
type table struct {
	mu    sync.Mutex
	rows  map[string]string
	saves int
	fail  error // of Save
}

var errTable = errors.New("the database is unavailable")

func (r *table) Load(_ context.Context, appID string) (string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.rows[appID], nil
}

func (r *table) Save(_ context.Context, appID, refreshToken string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.saves++
	if r.fail != nil {
		return fmt.Errorf("INSERT %q: %w", refreshToken, r.fail)
	}
	rows := maps.Clone(r.rows)
	if rows == nil {
		rows = map[string]string{}
	}
	rows[appID] = refreshToken
	r.rows = rows
	return nil
}

func (r *table) set(fail error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fail = fail
}

func (r *table) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.saves
}

// An offCache is the cache as a process sees it whose clock is ahead by off: all
// processes of a bubble have one clock, so the times in the cache are moved instead.
type offCache struct {
	wxtoken.Cache
	off time.Duration
}

var ownTimes = regexp.MustCompile(`"(created|saved_at|at|issued_at|expires_at|until)":\d{9,}`) // in seconds or ms

func moved(raw []byte, off time.Duration) []byte {
	if raw == nil {
		return nil
	}
	return ownTimes.ReplaceAllFunc(raw, func(field []byte) []byte {
		name, value, _ := bytes.Cut(field, []byte(":"))
		n, _ := strconv.ParseInt(string(value), 10, 64)
		by := int64(off / time.Second)
		if len(value) > 11 {
			by = off.Milliseconds()
		}
		return fmt.Appendf(nil, "%s:%d", name, n+by)
	})
}

func (o offCache) Get(ctx context.Context, key string) ([]byte, error) {
	raw, err := o.Cache.Get(ctx, key)
	return moved(raw, -o.off), err
}

func (o offCache) CompareAndSwap(ctx context.Context, key string, old, new []byte, ttl time.Duration) (bool, error) {
	return o.Cache.CompareAndSwap(ctx, key, moved(old, o.off), moved(new, o.off), ttl)
}

// off returns a process whose clock is ahead.
func (w *world) off(ahead time.Duration, opts ...openplatform.Option) *openplatform.Platform {
	there := *w
	there.cache = offCache{w.cache, ahead}
	return there.process(opts...)
}

// outage asks every minute for the token of each Source, with a ticket pushed every
// 10 minutes, and returns the longest time that one was without a token which the
// platform accepts.
func (w *world) outage(d time.Duration, sources ...*wxtoken.Source) (longest time.Duration) {
	w.t.Helper()
	last := make([]time.Time, len(sources))
	begin := time.Now()
	for i := range last {
		last[i] = begin
	}
	for minute := 0; time.Since(begin) < d; minute++ {
		if minute%10 == 0 {
			require.NoError(w.t, w.PushTicket(compID, hook))
		}
		for i, src := range sources {
			tok, err := src.Token(w.t.Context())
			if err == nil && !w.Honoured(tok.Value) {
				_ = src.Invalidate(w.t.Context(), tok.Value)
				tok, err = src.Token(w.t.Context())
			}
			if err == nil && w.Honoured(tok.Value) {
				last[i] = time.Now()
			}
			longest = max(longest, time.Since(last[i]))
		}
		time.Sleep(time.Minute)
	}
	return longest
}

// aged makes tokens old enough for a rejection to be believed.
func aged() { time.Sleep(11 * time.Second) }
