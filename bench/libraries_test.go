package main

import (
	"context"
	"errors"
	"io"
	"log"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"cloud.google.com/go/auth"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/faabiosr/cachego/file"
	"github.com/fastwego/offiaccount"
	"github.com/medivhzhan/weapp/v3"
	"github.com/medivhzhan/weapp/v3/logger"
	"github.com/redis/go-redis/v9"
	"github.com/silenceper/wechat/v2/cache"
	"github.com/silenceper/wechat/v2/credential"
	"github.com/silenceper/wechat/v2/util"
	"golang.org/x/oauth2"

	"github.com/wxtoken/wxtoken"
)

const (
	appID  = "wx0123456789abcdef"
	secret = "0123456789abcdef0123456789abcdef"
)

// someToken is as long as the platform's tokens.
var someToken = "89_" + strings.Repeat("k3S0mEt0kenOfTheUsualLength", 5)

// A getter returns the token that a library has at hand, or fetches it.
type getter func(ctx context.Context) (string, error)

// A fetch stands for the platform.
type fetch func() (value string, expires time.Time)

// twoHours is the fetch of a token that outlives the benchmark.
func twoHours() (string, time.Time) { return strings.Clone(someToken), time.Now().Add(2 * time.Hour) }

// clock is the least that a library costs which reads the clock.
func clock() getter {
	var p atomic.Pointer[wxtoken.Token]
	p.Store(&wxtoken.Token{Value: someToken, ExpiresAt: time.Now().Add(2 * time.Hour)})
	return func(context.Context) (string, error) {
		if tok := p.Load(); time.Now().Before(tok.ExpiresAt) {
			return tok.Value, nil
		}
		return "", errors.New("expired")
	}
}

func ours(f wxtoken.Fetcher, c wxtoken.Cache, opts ...wxtoken.Option) getter {
	src := wxtoken.New(f, c, opts...)
	return func(ctx context.Context) (string, error) {
		tok, err := src.Token(ctx)
		return tok.Value, err
	}
}

func fetcher(appID string, f fetch) wxtoken.Fetcher {
	return wxtoken.FetcherFunc(appID, func(context.Context) (wxtoken.Token, error) {
		value, expires := f()
		return wxtoken.Token{Value: value, ExpiresAt: expires}, nil
	})
}

func redisCache(addr string) wxtoken.Cache {
	return wxtoken.NewRedisCache(redis.NewClient(&redis.Options{Addr: addr, ContextTimeoutEnabled: true}))
}

type googleFunc func(context.Context) (*auth.Token, error)

func (f googleFunc) Token(ctx context.Context) (*auth.Token, error) { return f(ctx) }

func google(f fetch, ahead time.Duration) getter {
	src := auth.NewCachedTokenProvider(googleFunc(func(context.Context) (*auth.Token, error) {
		value, expires := f()
		return &auth.Token{Value: value, Expiry: expires}, nil
	}), &auth.CachedTokenProviderOptions{ExpireEarly: ahead})
	return func(ctx context.Context) (string, error) {
		tok, err := src.Token(ctx)
		if err != nil {
			return "", err
		}
		return tok.Value, nil
	}
}

// amazon keeps the token beside the keys that aws wants in its credentials.
func amazon(f fetch, ahead time.Duration) getter {
	src := aws.NewCredentialsCache(aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		value, expires := f()
		return aws.Credentials{AccessKeyID: appID, SecretAccessKey: secret, SessionToken: value, CanExpire: true, Expires: expires}, nil
	}), func(o *aws.CredentialsCacheOptions) { o.ExpiryWindow = ahead })
	return func(ctx context.Context) (string, error) {
		tok, err := src.Retrieve(ctx)
		return tok.SessionToken, err
	}
}

type oauth2Func func() (*oauth2.Token, error)

func (f oauth2Func) Token() (*oauth2.Token, error) { return f() }

func xoauth2(f fetch, ahead time.Duration) getter {
	src := oauth2.ReuseTokenSourceWithExpiry(nil, oauth2Func(func() (*oauth2.Token, error) {
		value, expires := f()
		return &oauth2.Token{AccessToken: value, Expiry: expires}, nil
	}), ahead)
	return func(context.Context) (string, error) {
		tok, err := src.Token()
		if err != nil {
			return "", err
		}
		return tok.AccessToken, nil
	}
}

// silenceper asks the platform at base, as does every other client of it in this process.
func silenceper(base, prefix string, c cache.Cache) getter {
	util.SetURIModifier(func(uri string) string { return strings.Replace(uri, "https://api.weixin.qq.com", base, 1) })
	return credential.NewDefaultAccessToken(appID, secret, prefix, c).GetAccessTokenContext
}

func silenceperRedis(addr string) cache.Cache {
	return cache.NewRedis(context.Background(), &cache.RedisOpts{Host: addr})
}

func weappAt(base string) getter {
	client := weapp.NewClient(appID, secret, weapp.WithHttpClient(&http.Client{Transport: reroute(base)}),
		weapp.WithLogger(logger.NewLogger(log.New(io.Discard, "", 0), logger.Silent, false)))
	return func(context.Context) (string, error) { return client.AccessToken() }
}

// fastwego keeps its token in a file in dir, and asks the platform at base, as silenceper does.
func fastwego(base, dir string) getter {
	offiaccount.WXServerUrl = base
	app := offiaccount.New(offiaccount.Config{Appid: appID, Secret: secret})
	app.Logger = nil
	app.AccessToken.Cache = file.New(dir)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		panic(err)
	}
	return func(context.Context) (string, error) { return offiaccount.GetAccessToken(app) }
}

// reroute sends every request to the platform with this base URL.
type reroute string

func (base reroute) RoundTrip(req *http.Request) (*http.Response, error) {
	req = req.Clone(req.Context())
	req.URL.Scheme, req.URL.Host, _ = strings.Cut(string(base), "://")
	return http.DefaultTransport.RoundTrip(req)
}
