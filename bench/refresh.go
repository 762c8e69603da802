package main

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"cloud.google.com/go/auth"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/redis/go-redis/v9"
	"golang.org/x/oauth2"

	"github.com/wxtoken/wxtoken"
	"github.com/wxtoken/wxtoken/internal/servers"
)

const (
	refreshCallers = 50
	refreshLatency = 200 * time.Millisecond  // of the platform; a caller who takes half of it has waited for it
	refreshLife    = 2400 * time.Millisecond // of a token
	refreshAhead   = refreshLife / 4
)

// rotating is what of the platform a subject of this chapter is given: a fetch
// that takes long, and notes when it is under way.
type rotating struct {
	fetches atomic.Int64
	active  atomic.Int64 // fetches under way
}

func (r *rotating) fetch() (value string, expires time.Time) {
	r.active.Add(1)
	defer r.active.Add(-1)
	expires = time.Now().Add(refreshLife)
	time.Sleep(refreshLatency)
	return fmt.Sprint("token-", r.fetches.Add(1)), expires
}

// refresh measures what callers see of a token's replacement.
func (b *bench) refresh() *section {
	s := &section{title: "Replacing the token under load", command: b.commandFor("refresh")}
	rotations := b.scale(20, 2)
	s.text("%d callers, each calling about once a millisecond, over %d rotations, the peers over half as many. The platform takes %v; a token lives for "+
		"%v, so that this does not take days, and everybody may replace it %v before its end. wxtoken is on Redis, with "+
		"WithLocalAge(300 ms) and WithFetchTimeout(1 s) to match. A call that takes over %v waited for the platform.",
		refreshCallers, rotations, refreshLatency, refreshLife, refreshAhead, refreshLatency/2)
	redisAddr := servers.Redis(b.servers).Addr()
	var rows [][]string
	for _, c := range []struct {
		name      string
		make      func(r *rotating) getter
		rotations int
	}{
		{nameOurs, func(r *rotating) getter { return rotatingSource(r, redisAddr) }, rotations},
		{nameGoogle, rotatingGoogle, rotations / 2}, {nameAWS, rotatingAWS, rotations / 2}, {nameOAuth2, rotatingOAuth2, rotations / 2},
	} {
		r := new(rotating)
		seen := observe(r, c.make(r), c.rotations)
		rows = append(rows, []string{
			c.name, fmt.Sprint(c.rotations), thousands(seen.calls), thousands(seen.waited),
			milliseconds(seen.atRotation), milliseconds(seen.between),
		})
		if c.name == nameOurs {
			s.expect(seen.waited == 0, fmt.Sprintf("refresh: callers who wait for the platform in %d rotations", rotations), "0", fmt.Sprint(seen.waited))
		}
	}
	s.table([]string{"", "rotations", "calls", "calls that waited for the platform",
		"largest latency at a rotation, ms", "largest without one, ms"}, rows)
	s.text("silenceper, weapp and fastwego have no refresh ahead of the end: who calls then waits, as with x/oauth2.")
	return s
}

func milliseconds(d time.Duration) string { return digits(float64(d) / 1e6) }

// A watch is what callers saw.
type watch struct {
	calls, waited       int
	atRotation, between time.Duration // the largest latencies
}

// observe lets callers call until the token has been replaced so often.
func observe(r *rotating, get getter, rotations int) watch {
	_, err := get(context.Background()) // the first fetch is not a rotation
	check(err == nil)
	last := r.fetches.Load() + int64(rotations)
	seen := make([]watch, refreshCallers)
	var all sync.WaitGroup
	for i := range seen {
		all.Go(func() {
			w := &seen[i]
			for r.fetches.Load() < last {
				time.Sleep(time.Millisecond)
				start := time.Now()
				before := r.active.Load()
				_, err := get(context.Background())
				took := time.Since(start)
				check(err == nil)
				w.calls++
				if took > refreshLatency/2 {
					w.waited++
				}
				if before+r.active.Load() > 0 || took > refreshLatency/2 {
					w.atRotation = max(w.atRotation, took)
				} else {
					w.between = max(w.between, took)
				}
			}
		})
	}
	all.Wait()
	var sum watch
	for _, w := range seen {
		sum.calls += w.calls
		sum.waited += w.waited
		sum.atRotation, sum.between = max(sum.atRotation, w.atRotation), max(sum.between, w.between)
	}
	return sum
}

func rotatingSource(r *rotating, redisAddr string) getter {
	client := redis.NewClient(&redis.Options{Addr: redisAddr, ContextTimeoutEnabled: true})
	fetcher := wxtoken.FetcherFunc("rotating", func(context.Context) (wxtoken.Token, error) {
		value, expires := r.fetch()
		return wxtoken.Token{Value: value, ExpiresAt: expires}, nil
	})
	src := wxtoken.New(fetcher, wxtoken.NewRedisCache(client), wxtoken.WithRefreshAhead(refreshAhead),
		wxtoken.WithLocalAge(300*time.Millisecond), wxtoken.WithFetchTimeout(time.Second))
	return func(ctx context.Context) (string, error) {
		tok, err := src.Token(ctx)
		return tok.Value, err
	}
}

func rotatingGoogle(r *rotating) getter {
	src := auth.NewCachedTokenProvider(googleFunc(func(context.Context) (*auth.Token, error) {
		value, expires := r.fetch()
		return &auth.Token{Value: value, Expiry: expires}, nil
	}), &auth.CachedTokenProviderOptions{ExpireEarly: refreshAhead})
	return func(ctx context.Context) (string, error) {
		tok, err := src.Token(ctx)
		if err != nil {
			return "", err
		}
		return tok.Value, nil
	}
}

func rotatingAWS(r *rotating) getter {
	src := aws.NewCredentialsCache(aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		_, expires := r.fetch()
		return credentials(expires), nil
	}), func(o *aws.CredentialsCacheOptions) { o.ExpiryWindow = refreshAhead })
	return func(ctx context.Context) (string, error) {
		tok, err := src.Retrieve(ctx)
		return tok.SessionToken, err
	}
}

func rotatingOAuth2(r *rotating) getter {
	src := oauth2.ReuseTokenSourceWithExpiry(nil, oauth2Func(func() (*oauth2.Token, error) {
		value, expires := r.fetch()
		return &oauth2.Token{AccessToken: value, Expiry: expires}, nil
	}), refreshAhead)
	return func(context.Context) (string, error) {
		tok, err := src.Token()
		if err != nil {
			return "", err
		}
		return tok.AccessToken, nil
	}
}
