package wxtoken_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/wxtoken/wxtoken"
	"github.com/wxtoken/wxtoken/wxtest"
)

func ExampleNewFetcher() {
	platform := wxtest.NewServer(wxtest.WithApp("wx1", "s3cret"))
	defer platform.Close()

	// Against the real platform there is no need for options.
	src := wxtoken.New(wxtoken.NewFetcher("wx1", "s3cret", wxtoken.WithBaseURL(platform.URL)), nil)
	tok, err := src.Token(context.Background())
	fmt.Println(tok.Value == platform.Latest("wx1"), err)
	// Output: true <nil>
}

func ExampleNewStableFetcher() {
	platform := wxtest.NewServer(wxtest.WithApp("wx1", "s3cret"))
	defer platform.Close()

	f := wxtoken.NewStableFetcher("wx1", "s3cret", wxtoken.WithBaseURL(platform.URL))
	first, _ := f.Fetch(context.Background())
	again, err := f.Fetch(context.Background())
	fmt.Println(f.Key(), first.Value == again.Value, err)
	// Output: stable:wx1 true <nil>
}

func ExampleNewQQFetcher() {
	platform := wxtest.NewServer(wxtest.WithApp("1105", "s3cret"))
	defer platform.Close()

	src := wxtoken.New(wxtoken.NewQQFetcher("1105", "s3cret", wxtoken.WithBaseURL(platform.URL)), nil)
	tok, err := src.Token(context.Background())
	fmt.Println(tok.Value == platform.Latest("1105"), err)
	// Output: true <nil>
}

// A token that comes from somewhere else, a program of your own for example, is
// kept in the same way. An *APIError says that none was issued.
func ExampleFetcherFunc() {
	f := wxtoken.FetcherFunc("mine:1105", func(ctx context.Context) (wxtoken.Token, error) {
		asked := time.Now() // before the request: the token's time runs from then
		value, seconds := "a-token", 7200
		return wxtoken.Token{Value: value, ExpiresAt: asked.Add(time.Duration(seconds) * time.Second)}, nil
	})
	tok, err := wxtoken.New(f, nil).Token(context.Background())
	fmt.Println(tok.Valid(), err)
	// Output: true <nil>
}

// The signature of a page in the WeChat browser needs a ticket, which is fetched
// with the app's access token: one Source for each.
func ExampleNewTicketFetcher() {
	platform := wxtest.NewServer(wxtest.WithApp("wx1", "s3cret"))
	defer platform.Close()
	opt := wxtoken.WithBaseURL(platform.URL)

	cache := wxtoken.NewMemoryCache()
	access := wxtoken.New(wxtoken.NewFetcher("wx1", "s3cret", opt), cache)
	tickets := wxtoken.New(wxtoken.NewTicketFetcher(access, "jsapi", opt), cache)

	ticket, err := tickets.Token(context.Background())
	fmt.Println(ticket.Value == platform.LatestTicket("wx1", "jsapi"), err)
	// Output: true <nil>
}

func ExampleNewWeComFetcher() {
	platform := wxtest.NewServer()
	defer platform.Close()
	platform.AddCorp("ww1", "s3cret-of-one-app")

	src := wxtoken.New(wxtoken.NewWeComFetcher("ww1", "s3cret-of-one-app", wxtoken.WithBaseURL(platform.URL)), nil)
	tok, err := src.Token(context.Background())
	fmt.Println(tok.Valid(), err)
	// Output: true <nil>
}

// WeCom has two tickets: the corporation's, for wx.config, and that of the app
// whose access token is used, for wx.agentConfig.
func ExampleNewTicketFetcher_wecom() {
	platform := wxtest.NewServer()
	defer platform.Close()
	platform.AddCorp("ww1", "s3cret-of-one-app")
	opt := wxtoken.WithBaseURL(platform.URL)

	access := wxtoken.New(wxtoken.NewWeComFetcher("ww1", "s3cret-of-one-app", opt), nil)
	for _, kind := range []string{"jsapi", "agent_config"} {
		tickets := wxtoken.New(wxtoken.NewTicketFetcher(access, kind, opt), nil)
		ticket, err := tickets.Token(context.Background())
		fmt.Println(ticket.Value == platform.LatestCorpTicket("ww1", "s3cret-of-one-app", kind), err)
	}
	// Output:
	// true <nil>
	// true <nil>
}

// A token server of your own hands out the same token to everybody: to ask it
// twice is harmless, even while the cache is unavailable.
func ExampleRepeatable() {
	fromOurServer := wxtoken.FetcherFunc("ours:wx1", func(ctx context.Context) (wxtoken.Token, error) {
		return wxtoken.Token{Value: "a-token", ExpiresAt: time.Now().Add(time.Hour)}, nil
	})
	tok, err := wxtoken.New(wxtoken.Repeatable(fromOurServer), deadCache{}).Token(context.Background())
	fmt.Println(tok.Valid(), err)
	// Output: true <nil>
}

// A secret in a file that is replaced when it is rotated, as Kubernetes does.
func ExampleWithSecretFunc() {
	ctx := context.Background()
	platform := wxtest.NewServer(wxtest.WithApp("wx1", "first-secret"))
	defer platform.Close()
	dir, _ := os.MkdirTemp("", "")
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "secret")
	_ = os.WriteFile(path, []byte("first-secret\n"), 0o600)

	fromFile := func(context.Context) (string, error) {
		secret, err := os.ReadFile(path)
		return strings.TrimSpace(string(secret)), err
	}
	f := wxtoken.NewFetcher("wx1", "", wxtoken.WithSecretFunc(fromFile), wxtoken.WithBaseURL(platform.URL))
	tok, err := f.Fetch(ctx)
	fmt.Println(platform.Honoured(tok.Value), err)

	platform.SetSecret("wx1", "second-secret")
	_ = os.WriteFile(path, []byte("second-secret\n"), 0o600)
	tok, err = f.Fetch(ctx)
	fmt.Println(platform.Honoured(tok.Value), err)
	// Output:
	// true <nil>
	// true <nil>
}

// A kvReader is what Vault's client has: client.KVv2("secret") is one, but for the
// name of the type that it returns.
type kvReader interface {
	Get(ctx context.Context, secretPath string) (*kvSecret, error)
}

type kvSecret struct{ Data map[string]any }

type fakeVault struct{ data map[string]any }

func (v fakeVault) Get(context.Context, string) (*kvSecret, error) { return &kvSecret{v.data}, nil }

func ExampleWithSecretFunc_vault() {
	platform := wxtest.NewServer(wxtest.WithApp("wx1", "s3cret"))
	defer platform.Close()

	var vault kvReader = fakeVault{map[string]any{"appsecret": "s3cret"}}
	fromVault := func(ctx context.Context) (string, error) {
		kv, err := vault.Get(ctx, "wechat/wx1")
		if err != nil {
			return "", err
		}
		secret, ok := kv.Data["appsecret"].(string)
		if !ok {
			return "", errors.New("wechat/wx1 has no appsecret")
		}
		return secret, nil
	}
	f := wxtoken.NewStableFetcher("wx1", "", wxtoken.WithSecretFunc(fromVault), wxtoken.WithBaseURL(platform.URL))
	tok, err := wxtoken.New(f, nil).Token(context.Background())
	fmt.Println(platform.Honoured(tok.Value), err)
	// Output: true <nil>
}

func ExampleAPIError() {
	platform := wxtest.NewServer(wxtest.WithApp("wx1", "s3cret"))
	defer platform.Close()

	src := wxtoken.New(wxtoken.NewFetcher("wx1", "not-it", wxtoken.WithBaseURL(platform.URL)), nil)
	_, err := src.Token(context.Background())
	var denied *wxtoken.APIError
	if errors.As(err, &denied) {
		fmt.Println(denied.Code, denied.Temporary())
	}
	// Output: 40125 false
}
