package main

import (
	"context"
	"io"
	"log"
	"os"
	"sync/atomic"
	"time"

	"cloud.google.com/go/auth"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/faabiosr/cachego/file"
	"github.com/fastwego/offiaccount"
	"github.com/medivhzhan/weapp/v3"
	"github.com/medivhzhan/weapp/v3/logger"
	"github.com/silenceper/wechat/v2/cache"
	"github.com/silenceper/wechat/v2/credential"
	"golang.org/x/oauth2"

	"github.com/wxtoken/wxtoken"
)

const (
	appID     = "wx0123456789abcdef"
	secret    = "0123456789abcdef0123456789abcdef"
	someToken = "89_k3S0mEt0kenOfTheUsualLength-abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRS"
)

// The names of the subjects, as the tables show them.
const (
	nameLoad       = "an atomic load"
	nameClock      = "an atomic load + time.Now"
	nameOurs       = "**wxtoken**"
	nameOursClock  = "**wxtoken** + time.Now"
	nameOAuth2     = "x/oauth2 ReuseTokenSource"
	nameAWS        = "aws-sdk-go-v2 CredentialsCache"
	nameGoogle     = "cloud.google.com/go/auth cached"
	nameSilenceper = "silenceper, memory"
	nameOnRedis    = "silenceper, Redis"
	nameWeapp      = "weapp, memory"
	nameFastwego   = "fastwego, file"
)

// cached gives every subject of the hot path, each holding a token for two hours.
func cached(redisAddr, dir string) []subject {
	ours := wxtokenSource()
	return []subject{
		loadFloor(), clockFloor(),
		{nameOurs, func(n int) {
			for range n {
				tok, err := ours.Token(context.Background())
				check(err == nil && tok.Value != "")
			}
		}},
		{nameOursClock, func(n int) {
			for range n {
				tok, err := ours.Token(context.Background())
				check(err == nil && tok.Value != "" && !time.Now().IsZero())
			}
		}},
		googleSubject(), awsSubject(), oauth2Subject(), weappSubject(),
		silenceperSubject(nameSilenceper, cache.NewMemory()),
		fastwegoSubject(dir),
		silenceperSubject(nameOnRedis, cache.NewRedis(context.Background(), &cache.RedisOpts{Host: redisAddr})),
	}
}

func check(ok bool) {
	if !ok {
		panic("bench: a subject gave no token")
	}
}

func wxtokenSource() *wxtoken.Source {
	fetch := func(context.Context) (wxtoken.Token, error) {
		return wxtoken.Token{Value: someToken, ExpiresAt: inTwoHours()}, nil
	}
	return wxtoken.New(wxtoken.FetcherFunc("bench", fetch), nil)
}

func inTwoHours() time.Time { return time.Now().Add(2 * time.Hour) }

func loadFloor() subject {
	var p atomic.Pointer[wxtoken.Token]
	p.Store(&wxtoken.Token{Value: someToken})
	return subject{nameLoad, func(n int) {
		for range n {
			check(p.Load().Value != "")
		}
	}}
}

func clockFloor() subject {
	var p atomic.Pointer[wxtoken.Token]
	p.Store(&wxtoken.Token{Value: someToken, ExpiresAt: inTwoHours()})
	return subject{nameClock, func(n int) {
		for range n {
			check(time.Now().Before(p.Load().ExpiresAt))
		}
	}}
}

type oauth2Func func() (*oauth2.Token, error)

func (f oauth2Func) Token() (*oauth2.Token, error) { return f() }

func oauth2Subject() subject {
	src := oauth2.ReuseTokenSource(nil, oauth2Func(func() (*oauth2.Token, error) {
		return &oauth2.Token{AccessToken: someToken, Expiry: inTwoHours()}, nil
	}))
	return subject{nameOAuth2, func(n int) {
		for range n {
			tok, err := src.Token()
			check(err == nil && tok.AccessToken != "")
		}
	}}
}

func awsSubject() subject {
	src := aws.NewCredentialsCache(aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		return credentials(inTwoHours()), nil
	}))
	return subject{nameAWS, func(n int) {
		for range n {
			tok, err := src.Retrieve(context.Background())
			check(err == nil && tok.SessionToken != "")
		}
	}}
}

// credentials hold the token beside the keys without which aws takes them for none.
func credentials(expires time.Time) aws.Credentials {
	return aws.Credentials{AccessKeyID: appID, SecretAccessKey: secret, SessionToken: someToken, CanExpire: true, Expires: expires}
}

type googleFunc func(context.Context) (*auth.Token, error)

func (f googleFunc) Token(ctx context.Context) (*auth.Token, error) { return f(ctx) }

func googleSubject() subject {
	src := auth.NewCachedTokenProvider(googleFunc(func(context.Context) (*auth.Token, error) {
		return &auth.Token{Value: someToken, Expiry: inTwoHours()}, nil
	}), nil)
	return subject{nameGoogle, func(n int) {
		for range n {
			tok, err := src.Token(context.Background())
			check(err == nil && tok.Value != "")
		}
	}}
}

func silenceperSubject(name string, c cache.Cache) subject {
	src := credential.NewDefaultAccessToken(appID, secret, "hot", c)
	err := c.Set("hot_access_token_"+appID, someToken, 2*time.Hour)
	check(err == nil)
	return subject{name, func(n int) {
		for range n {
			tok, err := src.GetAccessTokenContext(context.Background())
			check(err == nil && tok != "")
		}
	}}
}

var quiet = log.New(io.Discard, "", 0)

func weappSubject() subject {
	client := weapp.NewClient(appID, secret, weapp.WithLogger(logger.NewLogger(quiet, logger.Silent, false)),
		weapp.WithAccessTokenSetter(func(string, string) (string, uint) { return someToken, 7200 }))
	return subject{nameWeapp, func(n int) {
		for range n {
			tok, err := client.AccessToken()
			check(err == nil && tok != "")
		}
	}}
}

// fastwegoSubject keeps fastwego's default cache, a file, in a directory of its own.
func fastwegoSubject(dir string) subject {
	app := offiaccount.New(offiaccount.Config{Appid: appID, Secret: secret})
	app.Logger = nil
	app.AccessToken.Cache = file.New(dir)
	check(os.MkdirAll(dir, 0o700) == nil && app.AccessToken.Cache.Save(appID, someToken, 2*time.Hour) == nil)
	return subject{nameFastwego, func(n int) {
		for range n {
			tok, err := offiaccount.GetAccessToken(app)
			check(err == nil && tok != "")
		}
	}}
}
