//go:build linux

package chaos

import (
	"context"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/bradfitz/gomemcache/memcache"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken"
	"github.com/wxtoken/wxtoken/internal/servers"
	"github.com/wxtoken/wxtoken/wxtest"
)

// A fault strikes, lasts and heals before it returns.
type fault func(stream)

// A stream plays one fault after another. Several run side by side, so that faults overlap.
type stream struct {
	*round
	rng *rand.Rand
}

// stream returns the n-th stream of the round's seed.
func (r *round) stream(n int) stream { return stream{r, rand.New(rand.NewPCG(r.seed, uint64(n)))} }

// run plays every fault of the deck in random order, again and again.
func (s stream) run(deck ...fault) {
	for i := 0; len(deck) > 0 && time.Now().Before(s.until); i++ {
		if i%len(deck) == 0 {
			s.rng.Shuffle(len(deck), func(i, j int) { deck[i], deck[j] = deck[j], deck[i] })
		}
		deck[i%len(deck)](s)
		s.sleep(100*time.Millisecond, 2*time.Second)
	}
}

func (s stream) sleep(from, to time.Duration) {
	time.Sleep(from + time.Duration(s.rng.Float64()*float64(to-from)))
}

// long reports whether there is time for faults that outlast the grace.
func (r *round) long() bool { return r.until.Sub(r.began) > 2*grace }

// networkFaults concern some of the members that live as long as the round.
func (r *round) networkFaults() []fault {
	if len(r.backend.all) == 0 {
		return nil
	}
	harm := func(kind string, do func(*servers.FaultProxy), from, to time.Duration) fault {
		return func(s stream) {
			some := s.rng.Perm(members)[:1+s.rng.IntN(3)]
			defer s.begin(kind, some...)()
			for _, id := range some {
				for _, p := range s.processes[id].proxies {
					do(p)
					defer p.Heal()
				}
			}
			s.sleep(from, to)
		}
	}
	deck := []fault{
		harm("network cut", (*servers.FaultProxy).Cut, 200*time.Millisecond, 4*time.Second),
		harm("network black hole", (*servers.FaultProxy).BlackHole, 200*time.Millisecond, 3*time.Second),
		harm("replies dropped", func(p *servers.FaultProxy) { p.DropReplies(2) }, 500*time.Millisecond, time.Second),
	}
	if r.long() {
		deck = append(deck, harm("network cut, beyond the grace", (*servers.FaultProxy).Cut, grace+time.Second, grace+4*time.Second))
	}
	return deck
}

func processFaults() []fault {
	return []fault{
		func(s stream) { s.kill(s.rng.IntN(members)) },
		func(s stream) { s.stop(s.rng.IntN(members)) },
	}
}

// fetchFaults strike the next fetch, or the process that sent it.
func fetchFaults() []fault {
	next := func(kind string, f wxtest.Fault, strike func(stream, int)) fault {
		return func(s stream) {
			defer s.platform.Inject(f.On(wxtest.TokenCalls).Times(1))()
			select {
			case id := <-s.fetches:
				s.begin(kind)()
				if time.Sleep(fetchTimeout / 4); strike != nil && id < members {
					strike(s, id)
				}
			case <-time.After(time.Until(s.until)):
			}
		}
	}
	return []fault{
		next("SIGKILL in a fetch", wxtest.Latency(fetchTimeout/2), stream.kill),
		next("SIGSTOP in a fetch", wxtest.Latency(fetchTimeout/2), stream.stop),
		next("lost reply", wxtest.LostReply(), nil),
		next("late request", wxtest.LateRequest(4*fetchTimeout), nil),
		next("platform busy", wxtest.Busy(), nil),
		next("502 after a token was issued", wxtest.ServerError(http.StatusBadGateway).Applied(), nil),
		next("answer too late", wxtest.Latency(fetchTimeout*3/2), nil),
	}
}

func (s stream) kill(id int) {
	p := s.processes[id]
	p.struck.Lock()
	defer p.struck.Unlock()
	defer s.begin("SIGKILL", id)()
	p.kill()
	s.sleep(0, time.Second)
	assert.NoError(s.t, p.start())
}

// stop stops a process for longer than a lease lasts, and now and then beyond the grace.
func (s stream) stop(id int) {
	from, to := 2*fetchTimeout, 4*time.Second
	if s.long() && s.rng.IntN(3) == 0 {
		from, to = grace+time.Second, grace+3*time.Second
	}
	p := s.processes[id]
	p.struck.Lock()
	defer p.struck.Unlock()
	defer s.begin("SIGSTOP", id)()
	assert.NoError(s.t, p.cmd.Process.Signal(syscall.SIGSTOP))
	s.sleep(from, to)
	assert.NoError(s.t, p.cmd.Process.Signal(syscall.SIGCONT))
}

// shortLives ends a process every 3 to 10 s, by SIGKILL or by returning from main.
func (s stream) shortLives(id int) {
	for i := id; ; i++ {
		s.sleep(3*time.Second, 10*time.Second)
		switch p := s.processes[id]; {
		case time.Now().After(s.until):
			return
		case i%2 == 0:
			s.kill(id)
		default:
			heal := s.begin("returned from main", id)
			assert.NoError(s.t, p.finish())
			assert.NoError(s.t, p.start())
			heal()
		}
	}
}

// spoiler is a proxy before the platform that answers 502 to every second request
// for a token, and loses the query of the others.
func spoiler(platform string) http.Handler {
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: platform})
	proxy.ErrorLog = log.New(io.Discard, "", 0)
	var requests atomic.Int64
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Path == wxtest.TokenPath {
			if req.URL.RawQuery = ""; requests.Add(1)%2 == 0 {
				w.WriteHeader(http.StatusBadGateway)
				return
			}
		}
		proxy.ServeHTTP(w, req)
	})
}

// A backend is the store of a round, as its clients are configured.
type backend struct {
	Name   string
	Addrs  []string // of servers; a directory, for files
	Master string   // for Sentinel

	all    []string // addresses that clients may connect to
	faults []fault  // of its own, for the test's goroutine
}

func startBackend(t *testing.T, name string) (b backend) {
	b.Name = name
	restart := func(s *servers.Server) {
		b.Addrs = []string{s.Addr()}
		b.faults = []fault{func(f stream) {
			defer f.begin("server killed, restarted empty")()
			s.Kill()
			f.sleep(100*time.Millisecond, 2*time.Second)
			s.Restart()
		}}
	}
	switch name {
	case "redis":
		restart(servers.Redis(t))
	case "memcached":
		restart(servers.Memcached(t))
	case "sentinel":
		g := servers.Sentinel(t)
		b.Addrs, b.Master = g.SentinelAddrs(), g.MasterName
		for _, node := range g.Nodes {
			b.all = append(b.all, node.Addr())
		}
		b.faults = []fault{failover(g.KillMaster, g.AwaitPromotion)}
	case "cluster":
		g := servers.Cluster(t)
		b.Addrs = g.Addrs()
		b.faults = []fault{
			failover(func() *servers.Server { return g.KillMasterFor(recordKey) },
				func(old *servers.Server) *servers.Server { return g.AwaitPromotion(recordKey, old) }),
			func(s stream) {
				defer s.begin("slot moved")()
				g.MoveSlot(recordKey, func() { s.sleep(0, time.Second) })
			},
		}
	case "file":
		b.Addrs = []string{t.TempDir()}
		b.faults = []fault{func(s stream) {
			defer s.begin("file cut short")()
			files, _ := filepath.Glob(filepath.Join(b.Addrs[0], "key-*"+appID)) // the pattern is good
			for _, path := range files {
				_ = os.Truncate(path, 100) // fails only if it is gone
			}
		}}
		return b
	}
	b.all = append(b.all, b.Addrs...)
	return b
}

func failover(kill func() *servers.Server, await func(*servers.Server) *servers.Server) fault {
	return func(s stream) {
		heal := s.begin("failover")
		old := kill()
		await(old)
		heal()
		old.Restart()
		c := redis.NewClient(&redis.Options{Addr: old.Addr()})
		defer c.Close()
		require.Eventually(s.t, func() bool {
			return strings.Contains(c.Info(s.t.Context(), "replication").Val(), "master_link_status:up")
		}, time.Minute, 50*time.Millisecond, "the killed master does not come back as a replica")
	}
}

// storeFaults are the backend's, and what can happen with each.
func (r *round) storeFaults() []fault {
	return append(r.backend.faults,
		func(s stream) {
			defer s.begin("record deleted")()
			_ = s.backend.deleteRecord(s.t.Context()) // fails only if it is absent
		},
		func(s stream) {
			defer s.begin("platform cut off")()
			s.front.Cut()
			s.sleep(200*time.Millisecond, 3*time.Second)
			s.front.Heal()
		})
}

func (b backend) deleteRecord(ctx context.Context) error {
	switch b.Name {
	case "file":
		return os.RemoveAll(b.Addrs[0])
	case "memcached":
		c := memcache.New(b.Addrs...)
		defer c.Close()
		return c.Delete(recordKey)
	}
	c := b.redis(nil)
	defer c.Close()
	return c.Del(ctx, recordKey).Err()
}

type dialer func(ctx context.Context, network, addr string) (net.Conn, error)

// open returns a cache as an application makes it.
func (b backend) open(dial dialer) wxtoken.Cache {
	switch b.Name {
	case "file":
		return wxtoken.NewFileCache(b.Addrs[0])
	case "memcached":
		c := memcache.New(b.Addrs...)
		c.DialContext = dial
		return wxtoken.NewMemcachedCache(c)
	}
	return wxtoken.NewRedisCache(b.redis(dial))
}

func (b backend) redis(dial dialer) redis.UniversalClient {
	return redis.NewUniversalClient(&redis.UniversalOptions{
		Addrs: b.Addrs, MasterName: b.Master, IsClusterMode: b.Name == "cluster", Dialer: dial, ContextTimeoutEnabled: true,
	})
}
