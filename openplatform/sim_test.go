package openplatform_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken"
	"github.com/wxtoken/wxtoken/openplatform"
	"github.com/wxtoken/wxtoken/wxtest"
)

// A seededRand is shared by everything random in the test. A seed does not repeat a
// run: the jitter of a Source has no seed, and goroutines that wake at the same time
// run in any order.
type seededRand struct {
	mu  sync.Mutex
	rng *rand.Rand
}

func (d *seededRand) float() float64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.rng.Float64()
}

func (d *seededRand) n(n int) int { return int(d.float() * float64(n)) }

// A flakyCache fails now and then, blocks a process for 90 s now and then, and can
// lose everything, or everything written since a snapshot.
type flakyCache struct {
	*seededRand
	faults atomic.Bool
	mu     sync.Mutex
	now    *wxtoken.MemoryCache
}

var errRough = errors.New("connection reset")

func (c *flakyCache) fault(ctx context.Context) error {
	if !c.faults.Load() {
		return nil
	}
	switch x := c.float(); {
	case x < 0.005:
		return errRough
	case x < 0.025:
		time.Sleep(90 * time.Second) // ignoring ctx, as a paused process would
	}
	return ctx.Err()
}

func (c *flakyCache) store() *wxtoken.MemoryCache {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *flakyCache) Get(ctx context.Context, key string) ([]byte, error) {
	if err := c.fault(ctx); err != nil {
		return nil, err
	}
	return c.store().Get(ctx, key)
}

func (c *flakyCache) CompareAndSwap(ctx context.Context, key string, old, new []byte, ttl time.Duration) (bool, error) {
	if err := c.fault(ctx); err != nil {
		return false, err
	}
	done, err := c.store().CompareAndSwap(context.WithoutCancel(ctx), key, old, new, ttl)
	return done, errors.Join(err, c.fault(ctx))
}

func (c *flakyCache) flush() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = wxtoken.NewMemoryCache()
}

// A tally counts what the callers saw.
type tally struct {
	calls, rejected, rejectedTwice, none int
}

// simulate runs a component with five authorizers in six processes for days. Now
// and then a process is replaced, or an account's owner authorizes again.
func simulate(t *testing.T, seed uint64, faults bool, opts ...wxtest.Option) (tally, *world) {
	w := newWorld(t, append(opts, wxtest.WithSeed(seed))...)
	d := &seededRand{rng: rand.New(rand.NewPCG(seed, seed))}
	cache := &flakyCache{seededRand: d, now: wxtoken.NewMemoryCache()}
	w.cache = cache
	var processes []*openplatform.Platform
	for range 6 {
		processes = append(processes, w.process())
	}
	w.to(processes[0])
	require.NoError(t, w.PushTicket(compID, hook))
	w.authorize(accounts...)
	if cache.faults.Store(faults); faults {
		for _, f := range []wxtest.Fault{
			wxtest.LostReply().On(wxtest.TokenCalls), wxtest.LateRequest(30 * time.Second).On(wxtest.TokenCalls), wxtest.Busy(),
		} {
			defer w.Inject(f.Rate(0.02))()
		}
	}
	var sum tally
	for minute := 0; minute < days*24*60; minute += every {
		if minute%10 == 0 {
			w.to(processes[d.n(len(processes))])
			_ = w.PushTicket(compID, hook) // a cache error loses it
		}
		if faults && minute%(48*60) == 24*60 {
			cache.flush()
		}
		if faults && d.float() < 0.002 {
			processes[d.n(len(processes))] = w.process()
		}
		if faults && d.float() < 0.0005 {
			_, _ = w.PushAuthorized(compID, accounts[d.n(len(accounts))], hook)
		}
		for _, account := range accounts {
			sum.call(w, processes[d.n(len(processes))].Authorizer(account))
		}
		time.Sleep(every * time.Minute)
	}
	cache.faults.Store(false)
	return sum, w
}

// call calls a business API, and once more with a new token if it is rejected.
func (s *tally) call(w *world, src *wxtoken.Source) {
	s.calls++
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	tok, err := src.Token(ctx)
	if err != nil {
		s.none++
		return
	}
	if w.Honoured(tok.Value) {
		return
	}
	s.rejected++
	_ = src.Invalidate(ctx, tok.Value)
	if tok, err = src.Token(ctx); err != nil {
		s.none++
	} else if !w.Honoured(tok.Value) {
		s.rejectedTwice++
	}
}

func TestSimulation(t *testing.T) {
	for _, test := range []struct {
		name       string
		faults     bool
		opts       []wxtest.Option
		rejected   int     // at most, at first use
		perDay     float64 // fetches for each credential, at most
		noneInTime float64 // the part of the calls that got no token, at most
	}{
		{"no faults", false, nil, 0, 13, 0},
		{"no faults, strict and rotating", false, []wxtest.Option{wxtest.WithStrictGrace(), wxtest.WithThirdParty(wxtest.ThirdParty{RotateRefreshTokens: true})}, 0, 13, 0},
		{"faults, lenient", true, nil, 30, 18, 0.001},
		{"faults, strict and rotating", true, []wxtest.Option{wxtest.WithStrictGrace(), wxtest.WithThirdParty(wxtest.ThirdParty{RotateRefreshTokens: true})}, 30, 18, 0.001},
		{"faults, no refresh token is returned", true, []wxtest.Option{wxtest.WithThirdParty(wxtest.ThirdParty{RotateRefreshTokens: true, EmptyRefreshTokens: true})}, 30, 18, 0.001},
	} {
		for seed := range uint64(seeds) {
			t.Run(fmt.Sprint(test.name, " seed=", seed), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					sum, w := simulate(t, seed, test.faults, test.opts...)
					perDay := float64(w.sent(wxtest.AuthorizerPath)[0]) / float64(len(accounts)*days)
					component := float64(w.sent(wxtest.ComponentPath)[0]) / days
					t.Logf("%+v; fetches a day: %.1f for each authorizer, %.1f for the component; lists: %d, 61023: %d",
						sum, perDay, component, w.sent(wxtest.AuthorizerListPath).Total(), w.sent(wxtest.AuthorizerPath)[61023])
					assert.LessOrEqual(t, sum.rejected, test.rejected)
					assert.LessOrEqual(t, sum.rejectedTwice, test.rejected/10)
					assert.LessOrEqual(t, perDay, test.perDay)
					assert.LessOrEqual(t, component, test.perDay)
					if full || test.noneInTime == 0 { // a day has so few calls that one event for all accounts is more than that
						assert.LessOrEqual(t, float64(sum.none)/float64(sum.calls), test.noneInTime)
					}
					assert.Zero(t, w.sent(wxtest.AuthorizerPath)[61003])

					// After the faults, every account has a token again: no refresh
					// token is lost.
					time.Sleep(15 * time.Minute)
					p := w.ready()
					for _, account := range accounts {
						tok, err := p.Authorizer(account).Token(t.Context())
						require.NoError(t, err, account)
						if !w.Honoured(tok.Value) {
							require.NoError(t, p.Authorizer(account).Invalidate(t.Context(), tok.Value))
							tok, err = p.Authorizer(account).Token(t.Context())
							require.NoError(t, err, account)
						}
						assert.True(t, w.Honoured(tok.Value), account)
					}
					time.Sleep(10 * time.Minute) // whatever is under way ends by itself
				})
			})
		}
	}
}
