package wxtoken_test

import (
	"context"
	"errors"
	"fmt"
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

// A token that comes from somewhere else, a QQ mini program's for example, is
// kept in the same way. An *APIError says that none was issued.
func ExampleFetcherFunc() {
	f := wxtoken.FetcherFunc("qq:1105", func(ctx context.Context) (wxtoken.Token, error) {
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

func ExampleAPIError() {
	platform := wxtest.NewServer(wxtest.WithApp("wx1", "s3cret"))
	defer platform.Close()

	src := wxtoken.New(wxtoken.NewFetcher("wx1", "not-it", wxtoken.WithBaseURL(platform.URL)), nil)
	_, err := src.Token(context.Background())
	var refused *wxtoken.APIError
	if errors.As(err, &refused) {
		fmt.Println(refused.Code, refused.Temporary())
	}
	// Output: 40125 false
}
