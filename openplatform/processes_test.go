package openplatform_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/wxtoken/wxtoken/internal/servers"
	"github.com/wxtoken/wxtoken/wxtest"
)

const workerEnv = "WXTOKEN_OPENPLATFORM_WORKER" // set in the processes that these tests start

var accounts = []string{"wx1", "wx2", "wx3", "wx4", "wx5"}

// A silentLogger keeps go-redis from logging each failover.
type silentLogger struct{}

func (silentLogger) Printf(context.Context, string, ...any) {}

func TestMain(m *testing.M) {
	redis.SetLogger(silentLogger{})
	if job := os.Getenv(workerEnv); job != "" {
		work(job)
		return
	}
	goleak.VerifyTestMain(m)
}

// A fleet is the fake platform on a socket, with five authorized accounts.
type fleet struct {
	*wxtest.Server
	job job
}

func newFleet(t *testing.T, j job, opts ...wxtest.Option) *fleet {
	f := &fleet{wxtest.NewServer(append(opts, wxtest.WithComponent(compID, secret, msgToken, aesKey))...), j}
	t.Cleanup(f.Close)
	f.job.Platform = f.URL
	return f
}

// authorize creates a ticket and an authorization of each account under a prefix.
func (f *fleet) authorize(t *testing.T, prefix string) {
	t.Helper()
	j := f.job
	j.Prefix = prefix
	p, done := j.platform(&steps{})
	defer func() { assert.NoError(t, done()) }()
	require.NoError(t, p.SetTicket(t.Context(), f.IssueTicket(compID)))
	for _, account := range accounts {
		_, err := p.Authorize(t.Context(), f.IssueCode(compID, account))
		require.NoError(t, err)
	}
}

// latest returns the token that each caller must have got.
func (f *fleet) latest(account string) string {
	if account == "" {
		return f.LatestComponent(compID)
	}
	return f.LatestAuthorizer(compID, account)
}

// Real processes, real HTTP, a real store: one fetch for each credential.
func TestColdProcessesMakeOneFetchForEachCredential(t *testing.T) {
	const processes, callers, rounds = 5, 20, 10
	store := servers.Redis(t)
	f := newFleet(t, job{Redis: store.Addr(), Callers: callers, Fetch: time.Minute})
	var workers []*worker
	for range processes {
		w := f.job.start(t)
		defer func() { assert.NoError(t, w.stop()) }()
		workers = append(workers, w)
	}
	f.Inject(wxtest.Latency(50 * time.Millisecond))
	for round := range rounds {
		prefix := fmt.Sprint("round", round, ":")
		f.authorize(t, prefix)
		// That needed the component's token. From here on no credential has a token.
		f.authorizeOnly(t, store, prefix)
		before := f.Stats().Results
		component, authorizer := before[wxtest.ComponentPath].Total(), before[wxtest.AuthorizerPath].Total()
		var all sync.WaitGroup
		for _, w := range workers {
			all.Go(func() {
				for account, tokens := range w.ask(prefix) {
					assert.Equal(t, map[string]int{f.latest(account): callers}, tokens, account)
				}
			})
		}
		all.Wait()
		after := f.Stats().Results
		require.Equal(t, 1, after[wxtest.ComponentPath].Total()-component, "component, round %d", round)
		require.Equal(t, len(accounts), after[wxtest.AuthorizerPath].Total()-authorizer, "authorizers, round %d", round)
	}
	t.Logf("%d processes x 6 credentials x %d callers, %d rounds: 1 fetch for each credential in each", processes, callers, rounds)
}

// authorizeOnly removes the component's token, as if it had expired.
func (f *fleet) authorizeOnly(t *testing.T, store *servers.Server, prefix string) {
	client := redis.NewClient(&redis.Options{Addr: store.Addr()})
	defer client.Close()
	require.NoError(t, client.Del(t.Context(), prefix+"component:"+compID).Err())
}

// A process dies at each of its steps in turn; the next one must get all tokens,
// whatever the dead one left behind. Refresh tokens change with each use, and now and
// then the cache loses everything.
func TestNoRefreshTokenIsLostToADeathAtAnyStep(t *testing.T) {
	t.Parallel() // with the failover: both mostly wait
	for _, own := range []bool{false, true} {
		t.Run(fmt.Sprint("own=", own), func(t *testing.T) {
			t.Parallel()
			store := servers.Redis(t)
			client := redis.NewClient(&redis.Options{Addr: store.Addr()})
			defer client.Close()
			j := job{Redis: store.Addr(), Callers: 1, Fetch: 500 * time.Millisecond}
			if own {
				j.Rows = t.TempDir()
			}
			f := newFleet(t, j, wxtest.WithThirdParty(wxtest.ThirdParty{RotateRefreshTokens: true}), wxtest.WithGrace(0))
			f.authorize(t, "p:")
			deaths := 0
			for killAt := int64(1); ; killAt += 1 + killAt/6 { // every step at first
				f.expire(t, client)
				if killAt%5 == 0 {
					require.NoError(t, client.FlushAll(t.Context()).Err())
				}
				require.NoError(t, f.setTicket(t, "p:"))
				dying := f.job
				dying.KillAt = killAt
				w := dying.start(t)
				out := w.ask("p:")
				_ = w.stop()
				if out != nil {
					break // it finished before the step
				}
				deaths++
				f.mustRecover(t, "p:", killAt)
			}
			t.Logf("%d deaths, requests: %v", deaths, f.Stats().Results)
			assert.Greater(t, deaths, 10)
			assert.Zero(t, f.Stats().Results[wxtest.AuthorizerPath][61003])
		})
	}
}

// setTicket pushes a ticket to a process that only takes pushes.
func (f *fleet) setTicket(t *testing.T, prefix string) error {
	j := f.job
	j.Prefix = prefix
	p, done := j.platform(&steps{})
	return errors.Join(p.SetTicket(t.Context(), f.IssueTicket(compID)), done())
}

// expire expires every token and deletes its record.
func (f *fleet) expire(t *testing.T, client *redis.Client) {
	f.Expire(f.LatestComponent(compID))
	require.NoError(t, client.Del(t.Context(), "p:component:"+compID).Err())
	for _, account := range accounts {
		f.Expire(f.LatestAuthorizer(compID, account))
		require.NoError(t, client.Del(t.Context(), "p:authorizer:"+compID+":"+account).Err())
	}
}

// mustRecover lets a new process retry until it has a valid token of each account.
func (f *fleet) mustRecover(t *testing.T, prefix string, step int64) {
	t.Helper()
	j := f.job
	j.Prefix = prefix
	p, done := j.platform(&steps{})
	defer func() { assert.NoError(t, done()) }()
	var all sync.WaitGroup
	for _, account := range accounts {
		all.Go(func() {
			src, deadline := p.Authorizer(account), time.Now().Add(2*time.Minute)
			for {
				tok, err := src.Token(t.Context())
				switch {
				case err == nil && f.Honoured(tok.Value):
					return
				case time.Now().After(deadline):
					assert.NoError(t, err, "%s after a death at step %d", account, step)
					return
				case err == nil:
					_ = src.Invalidate(t.Context(), tok.Value)
				}
				time.Sleep(50 * time.Millisecond)
			}
		})
	}
	all.Wait()
}

// Processes keep working when the master dies and a replica is promoted, with refresh
// tokens that change with each use.
func TestNoRefreshTokenIsLostInAFailover(t *testing.T) {
	t.Parallel()
	group := servers.Sentinel(t)
	f := newFleet(t, job{Sentinels: group.SentinelAddrs(), Callers: 2, Fetch: time.Second},
		wxtest.WithThirdParty(wxtest.ThirdParty{RotateRefreshTokens: true}), wxtest.WithLifetime(3*time.Second), wxtest.WithGrace(time.Second))
	f.authorize(t, "p:")
	// Long enough to leave the machine to the servers, and short enough that each
	// token is missed within a fortieth of its life.
	const pause = 75 * time.Millisecond
	ctx, stop := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for range 4 {
		w := f.job.start(t)
		all.Go(func() {
			for ctx.Err() == nil { // each time as a process that has just started
				w.ask("p:")
				time.Sleep(pause)
			}
			assert.NoError(t, w.stop())
		})
	}
	time.Sleep(4 * time.Second)
	for range 2 {
		old := group.KillMaster()
		group.AwaitPromotion(old)
		time.Sleep(3 * time.Second)
		old.Restart()
		time.Sleep(3 * time.Second)
	}
	stop()
	all.Wait()
	require.NoError(t, f.setTicket(t, "p:"))
	f.mustRecover(t, "p:", 0)
	t.Logf("requests: %v", f.Stats().Results)
	assert.Zero(t, f.Stats().Results[wxtest.AuthorizerPath][61003])
}
