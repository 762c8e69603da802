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
}

const (
	callers   = 2                     // per process
	callPause = 50 * time.Millisecond // between a caller's calls, on average
	holding   = 10 * time.Millisecond // from Token to the request, on average
	patience  = time.Second           // of a caller with Token; 50 s
)

// work is what a worker process does until its standard input ends.
func (c childConfig) work() {
	report := &reporter{out: json.NewEncoder(os.Stdout)}
	spy := &spyCache{Cache: c.cache(), report: report, lifetime: c.Lifetime}
	src := wxtoken.New(
		&spyFetcher{wxtoken.NewFetcher(appID, secret, wxtoken.WithBaseURL(c.Platform)), spy},
		spy,
		wxtoken.WithFetchTimeout(fetchTimeout),
		wxtoken.WithLocalAge(localAge),
		wxtoken.WithRefreshAhead(refreshAhead),
		wxtoken.WithObserver(report.event),
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

// A line is what a worker reports, one of its fields.
type line struct {
	Call  *call     `json:",omitempty"`
	Fetch *fetch    `json:",omitempty"` // about to be sent
	Event eventLine `json:",omitzero"`
	Stall *window   `json:",omitempty"` // the machine, or a signal, held the process up
}

type eventLine struct {
	Kind wxtoken.EventKind
	Err  string `json:",omitempty"`
}

// A call is one business call, which a refusal repeats with another token.
type call struct {
	Start  time.Time
	First  attempt
	Told   string    `json:",omitempty"` // the error of Invalidate after First, by kind
	ToldAt time.Time // when Invalidate returned
	Second *attempt  `json:",omitempty"`

	worker     int // set by the parent
	generation int
}

// An attempt is one Token and one request with it.
type attempt struct {
	Got, End time.Time // when Token returned, and when the answer was there
	Token    string    // its hash, in short
	Code     int       // errcode, or one of those below
	Err      string    `json:",omitempty"` // of Token, by kind
}

const (
	noToken     = -100 // Token gave an error
	unreachable = -101 // no answer of the platform
)

func (c childConfig) call(src *wxtoken.Source, client *http.Client) *call {
	done := &call{Start: time.Now()}
	var value string
	done.First, value = c.attempt(src, client)
	if wxtoken.IsTokenRejected(done.First.Code) {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := src.Invalidate(ctx, value); err != nil {
			done.Told = kindOf(err)
		}
		done.ToldAt = time.Now()
		second, _ := c.attempt(src, client)
		done.Second = &second
	}
	return done
}

func (c childConfig) attempt(src *wxtoken.Source, client *http.Client) (attempt, string) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	tok, err := src.Token(ctx)
	a := attempt{Got: time.Now(), Token: hash(tok.Value), Code: noToken}
	if err != nil {
		a.Err = kindOf(err)
	} else {
		time.Sleep(rand.N(2 * holding))
		a.Code = ask(client, c.Platform, tok.Value)
	}
	a.End = time.Now()
	return a, tok.Value
}

func ask(client *http.Client, platform, token string) (code int) {
	resp, err := client.Get(platform + "/cgi-bin/get_api_domain_ip?access_token=" + url.QueryEscape(token))
	if err != nil {
		return unreachable
	}
	defer resp.Body.Close()
	var answer struct {
		Errcode int               `json:"errcode"`
		List    []json.RawMessage `json:"ip_list"`
	}
	if json.NewDecoder(resp.Body).Decode(&answer) != nil || answer.Errcode == 0 && answer.List == nil {
		return unreachable
	}
	return answer.Errcode
}

const cacheUnavailable = "cache unavailable"

func kindOf(err error) string {
	var cool *wxtoken.CooldownError
	var refused *wxtoken.APIError
	switch {
	case errors.As(err, &cool) && errors.As(err, &refused):
		return fmt.Sprint("cooldown after errcode ", refused.Code)
	case errors.As(err, &cool):
		return "cooldown after no answer"
	case errors.Is(err, wxtoken.ErrCacheUnavailable):
		return cacheUnavailable
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

func (r *reporter) event(e wxtoken.Event) {
	l := eventLine{Kind: e.Kind}
	if e.Err != nil {
		l.Err = e.Err.Error()
	}
	r.send(line{Event: l})
}

// A fetch tells why a process asks the platform.
type fetch struct {
	At    time.Time
	Why   string
	Token string // hash of the one in the record until then
}

// Reasons to fetch.
const (
	whyAbsent   = "no record"
	whyRejected = "token refused"
	whyDue      = "end of life"
	whyOwed     = "doubt"
	whyTakeover = "lease abandoned"
	whyNone     = "none"
)

// A spyCache sees in which state of the record the lease was asked for.
type spyCache struct {
	wxtoken.Cache
	report   *reporter
	lifetime time.Duration

	mu   sync.Mutex
	next fetch
}

func (s *spyCache) CompareAndSwap(ctx context.Context, key string, old, new []byte, ttl time.Duration) (bool, error) {
	was, is := parse(old), parse(new)
	if is.Lease != "" && is.Lease != was.Lease {
		s.mu.Lock()
		s.next = fetch{Why: was.why(s.lifetime), Token: hash(was.Token)}
		s.mu.Unlock()
	}
	return s.Cache.CompareAndSwap(ctx, key, old, new, ttl)
}

// A storedRecord is what docs/protocol.md says of the bytes in the cache.
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
		return whyTakeover
	case r.Token == "":
		return whyAbsent
	case r.Rejected:
		return whyRejected
	case time.Until(time.UnixMilli(r.ExpiresAt)) <= min(refreshAhead, lifetime/4):
		return whyDue
	case r.Owed > 0:
		return whyOwed
	}
	return whyNone
}

// A spyFetcher tells the parent of each fetch before it is sent.
type spyFetcher struct {
	*wxtoken.HTTPFetcher
	spy *spyCache
}

func (s *spyFetcher) Fetch(ctx context.Context) (wxtoken.Token, error) {
	s.spy.mu.Lock()
	f := s.spy.next
	s.spy.mu.Unlock()
	f.At = time.Now()
	s.spy.report.send(line{Fetch: &f})
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
