package openplatform_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
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

// sent counts requests to a path, by result.
func (w *world) sent(path string) wxtest.Tally { return w.Stats().Results[path] }

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

// aged makes tokens old enough for a rejection to be believed.
func aged() { time.Sleep(11 * time.Second) }
