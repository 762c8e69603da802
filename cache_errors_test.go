package wxtoken_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken"
	"github.com/wxtoken/wxtoken/wxtest"
)

// A gossipingCache has the record in every error, once it is told to.
type gossipingCache struct {
	wxtoken.Cache
	say func(record string) error // nil: nothing
}

func (g *gossipingCache) Get(ctx context.Context, key string) ([]byte, error) {
	record, err := g.Cache.Get(ctx, key)
	if g.say != nil {
		return nil, g.say(string(record))
	}
	return record, err
}

func (g *gossipingCache) CompareAndSwap(ctx context.Context, key string, old, new []byte, ttl time.Duration) (bool, error) {
	stored, err := g.Cache.CompareAndSwap(ctx, key, old, new, ttl)
	if g.say != nil {
		return false, g.say(string(old) + string(new))
	}
	return stored, err
}

// storeFault is an error of a store's client, by a type of its own.
type storeFault struct{ Reply string }

func (f *storeFault) Error() string { return "unexpected reply " + f.Reply }

// Whatever a store says, of any Cache, no record shows in an error of Token and
// Invalidate, in an Event or in a log; what the error is can still be asked.
func TestErrorsOfAStoreShowNoRecord(t *testing.T) {
	for name, say := range map[string]func(record string) error{
		"text": func(r string) error {
			return fmt.Errorf("ERR unknown command 'EVALSHA', with args beginning with: '%s'", r)
		},
		"quoted":     func(r string) error { return fmt.Errorf("redis: can't parse %.100q", r) },
		"cut":        func(r string) error { return errors.New(r[min(len(r), 60):]) },
		"typed":      func(r string) error { return fmt.Errorf("store: %w", &storeFault{r}) },
		"joined":     func(r string) error { return errors.Join(wxtoken.ErrCacheMiss, &storeFault{r}) },
		"a miss too": func(r string) error { return fmt.Errorf("%w: %s", errors.Join(wxtoken.ErrCacheMiss), r) },
	} {
		bubble(t, name, func(t *testing.T) {
			p := wxtest.NewPlatform(wxtest.WithApp("wx1", markedSecret))
			w := &witness{t: t, latest: []func() string{func() string { return p.Latest("wx1") }}}
			cache := &gossipingCache{Cache: wxtoken.NewMemoryCache()}
			var logs bytes.Buffer
			var last atomic.Pointer[wxtoken.Event]
			src := wxtoken.New(wxtoken.NewFetcher("wx1", markedSecret, wxtoken.WithHTTPClient(p.Client())), cache,
				wxtoken.WithLogger(slog.New(slog.NewTextHandler(&logs, &slog.HandlerOptions{Level: slog.LevelDebug}))),
				wxtoken.WithObserver(func(e wxtoken.Event) {
					if e.Kind == wxtoken.EventCacheError {
						last.Store(&e)
					}
					w.look("event", e, e.Err)
				}))
			first := token(t, src)
			cache.say = say
			for range 8 {
				time.Sleep(20 * time.Minute)
				tok, err := src.Token(t.Context())
				w.look("answer", tok, err)
				w.look("invalidate", src.Invalidate(t.Context(), first))
			}
			synctest.Wait()
			require.NotNil(t, last.Load())
			assert.NotErrorIs(t, last.Load().Err, wxtoken.ErrCacheMiss)
			var fault *storeFault
			assert.Equal(t, name == "typed" || name == "joined", errors.As(last.Load().Err, &fault))
			w.search("log", logs.String())
			record, err := cache.Cache.Get(t.Context(), "wxtoken:token:wx1")
			if err == nil {
				assert.NotContains(t, logs.String(), string(record[:20]))
			}
		})
	}
}
