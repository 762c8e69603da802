//go:build linux

package chaos

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"sync"
	"time"

	"github.com/bradfitz/gomemcache/memcache"
	"github.com/redis/go-redis/v9"

	"github.com/wxtoken/wxtoken"
)

// A childConfig is what a worker process is told.
type childConfig struct {
	Backend  string
	Addrs    []string          // of the servers a client is configured with
	Master   string            // Sentinel's name of the master
	Routes   map[string]string // server to this worker's proxy in front of it
	Platform string            // URL
	Lifetime time.Duration
	Ahead    time.Duration // WithRefreshAhead
}

const (
	callers   = 2                      // per process
	callPause = 50 * time.Millisecond  // between a caller's calls, on average
	holding   = 10 * time.Millisecond  // from Token to the request, on average
	heldUp    = 500 * time.Millisecond // from Token to the answer; later it is not judged
	patience  = time.Second            // of a caller with Token; 50 s
)

// work is what a worker process does until its standard input ends.
func (c childConfig) work() {
	report := &reporter{out: json.NewEncoder(os.Stdout)}
	spy := &spyCache{Cache: c.cache(), lifetime: c.Lifetime}
	src := wxtoken.New(
		&spyFetcher{wxtoken.NewFetcher(appID, secret, wxtoken.WithBaseURL(c.Platform)), spy, report},
		spy,
		wxtoken.WithFetchTimeout(fetchTimeout),
		wxtoken.WithLocalAge(localAge),
		wxtoken.WithRefreshAhead(c.Ahead),
		wxtoken.WithObserver(func(e wxtoken.Event) {
			report.send(line{Event: string(e.Kind), Text: fmt.Sprint(e.Err)})
		}),
	)
	for range callers {
		go func() {
			client := &http.Client{Timeout: patience, Transport: &http.Transport{}}
			for {
				time.Sleep(callPause/2 + rand.N(callPause))
				report.send(line{Call: c.call(src, client)})
			}
		}()
	}
	go watchStalls(nil, func(s window) { report.send(line{Stall: &s}) })
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// A line is what a worker reports: one of its fields, and perhaps a word on it.
type line struct {
	Call  *call   `json:",omitempty"`
	Fetch string  `json:",omitempty"` // about to be sent: why
	Event string  `json:",omitempty"`
	Stall *window `json:",omitempty"` // the machine, or a signal, held the process up
	Text  string  `json:",omitempty"`
}

// A call is one business call, which a rejection repeats with another token.
type call struct {
	window
	Result string // what came of it: one of those below, or more about it
	Token  string // the hash of the one used last
	Text   string
}

const (
	ok            = "ok"
	rejectedOK    = "rejected, then ok"
	rejectedTwice = "rejected twice"
	noAnswer      = "no answer"
	noToken       = "no token: "
)

// served reports whether the platform accepted a token in the end.
func (c *call) served() bool { return c.Result == ok || c.Result == rejectedOK }

func (c childConfig) call(src *wxtoken.Source, client *http.Client) *call {
	done := &call{window: window{From: time.Now()}}
	first := c.attempt(src, client)
	last := first
	if first.rejected() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		told := src.Invalidate(ctx, first.value)
		last = c.attempt(src, client)
		done.Text = fmt.Sprintf("with %s, Invalidate: %v, with %s", hash(first.value), told, hash(last.value))
		switch {
		case last.result == ok:
			last.result = rejectedOK
		case last.rejected() && told != nil:
			last.result = "rejected, and not believed or no cache"
		case last.rejected() && last.took > heldUp:
			last.result = "rejected, and held up"
		case last.rejected():
			last.result = rejectedTwice
		}
	}
	done.Token, done.Result, done.To = hash(last.value), last.result, time.Now()
	return done
}

// An attempt is one Token and one request with it.
type attempt struct {
	value, result string
	took          time.Duration // from Token to the answer
}

const rejected = "rejected"

func (a attempt) rejected() bool { return a.result == rejected }

func (c childConfig) attempt(src *wxtoken.Source, client *http.Client) attempt {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	tok, err := src.Token(ctx)
	if err != nil {
		return attempt{result: noToken + kindOf(err)}
	}
	got := time.Now()
	time.Sleep(rand.N(2 * holding))
	result := ask(client, c.Platform, tok.Value)
	return attempt{tok.Value, result, time.Since(got)}
}

func ask(client *http.Client, platform, token string) string {
	resp, err := client.Get(platform + "/cgi-bin/get_api_domain_ip?access_token=" + url.QueryEscape(token))
	if err != nil {
		return noAnswer
	}
	defer resp.Body.Close()
	var answer struct {
		Errcode int               `json:"errcode"`
		List    []json.RawMessage `json:"ip_list"`
	}
	switch err := json.NewDecoder(resp.Body).Decode(&answer); {
	case err == nil && wxtoken.IsTokenRejected(answer.Errcode):
		return rejected
	case err == nil && answer.List != nil:
		return ok
	}
	return noAnswer
}

func kindOf(err error) string {
	var cool *wxtoken.CooldownError
	var denial *wxtoken.APIError
	switch {
	case errors.As(err, &cool) && errors.As(err, &denial):
		return fmt.Sprint("cooldown after errcode ", denial.Code)
	case errors.As(err, &cool):
		return "cooldown after no answer"
	case errors.Is(err, wxtoken.ErrCacheUnavailable):
		return "cache unavailable"
	case errors.Is(err, context.DeadlineExceeded):
		return "caller's deadline"
	}
	return err.Error()
}

// hash names a token where its value must not be seen.
func hash(token string) string {
	if token == "" {
		return ""
	}
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:4])
}

// A reporter writes lines to the parent.
type reporter struct {
	mu  sync.Mutex
	out *json.Encoder
}

func (r *reporter) send(l line) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.out.Encode(l) != nil {
		os.Exit(0) // the parent is gone
	}
}

// nothingToFetchFor is why nobody may fetch.
const nothingToFetchFor = "none"

// A spyCache sees in which state of the record the lease was asked for.
type spyCache struct {
	wxtoken.Cache
	lifetime time.Duration

	mu  sync.Mutex
	why string
}

func (s *spyCache) CompareAndSwap(ctx context.Context, key string, old, new []byte, ttl time.Duration) (bool, error) {
	was, is := parse(old), parse(new)
	if is.Lease != "" && is.Lease != was.Lease {
		s.mu.Lock()
		s.why = was.why(s.lifetime)
		s.mu.Unlock()
	}
	return s.Cache.CompareAndSwap(ctx, key, old, new, ttl)
}

// A storedRecord is what docs/design.md says of the bytes in the cache.
type storedRecord struct {
	Epoch     string `json:"epoch"`
	Token     string `json:"token"`
	ExpiresAt int64  `json:"expires_at"`
	Lease     string `json:"lease"`
	Owed      int    `json:"owed"`
	Rejected  bool   `json:"rejected"`
}

func parse(raw []byte) (r storedRecord) {
	_ = json.Unmarshal(raw, &r) // of what is none, the zero record
	return r
}

func (r storedRecord) why(lifetime time.Duration) string {
	switch {
	case r.Lease != "":
		return "lease abandoned"
	case r.Token == "":
		return "no record"
	case r.Rejected:
		return "token rejected"
	case time.Until(time.UnixMilli(r.ExpiresAt)) <= min(refreshAhead, lifetime/4):
		return "end of life"
	case r.Owed > 0:
		return "doubt"
	}
	return nothingToFetchFor
}

// A spyFetcher tells the parent of each fetch before it is sent.
type spyFetcher struct {
	*wxtoken.HTTPFetcher
	spy    *spyCache
	report *reporter
}

func (s *spyFetcher) Fetch(ctx context.Context) (wxtoken.Token, error) {
	s.spy.mu.Lock()
	why := s.spy.why
	s.spy.mu.Unlock()
	s.report.send(line{Fetch: why})
	return s.HTTPFetcher.Fetch(ctx)
}

// cache connects as an application would, but for the detour over the proxies.
func (c childConfig) cache() wxtoken.Cache {
	redis.SetLogger(quiet{})
	log.SetOutput(io.Discard)
	var dialer net.Dialer
	dial := func(ctx context.Context, network, addr string) (net.Conn, error) {
		detour, ok := c.Routes[addr]
		if !ok {
			return nil, fmt.Errorf("chaos: no proxy for %s", addr)
		}
		return dialer.DialContext(ctx, network, detour)
	}
	switch c.Backend {
	case "file":
		return wxtoken.NewFileCache(c.Addrs[0])
	case "redis":
		return wxtoken.NewRedisCache(redis.NewClient(&redis.Options{
			Addr: c.Addrs[0], Dialer: dial, ContextTimeoutEnabled: true,
		}))
	case "sentinel":
		return wxtoken.NewRedisCache(redis.NewFailoverClient(&redis.FailoverOptions{
			MasterName: c.Master, SentinelAddrs: c.Addrs, Dialer: dial, ContextTimeoutEnabled: true,
		}))
	case "cluster":
		return wxtoken.NewRedisCache(redis.NewClusterClient(&redis.ClusterOptions{
			Addrs: c.Addrs, Dialer: dial, ContextTimeoutEnabled: true,
		}))
	}
	client := memcache.New(c.Addrs...)
	client.DialContext = dial
	return wxtoken.NewMemcachedCache(client)
}

type quiet struct{}

func (quiet) Printf(context.Context, string, ...any) {}
