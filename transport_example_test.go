package wxtoken_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/wxtoken/wxtoken"
	"github.com/wxtoken/wxtoken/wxtest"
)

// A client that adds the token by itself, and replaces one that an API rejects,
// also where other code has put it into the request.
func ExampleTransport() {
	platform := wxtest.NewServer(wxtest.WithApp("wx1", "secret")) // in an application, the real one
	defer platform.Close()

	fetcher := wxtoken.NewFetcher("wx1", "secret", wxtoken.WithBaseURL(platform.URL))
	src := wxtoken.New(fetcher, fetchedAnHourAgo("dead-token"))
	client := &http.Client{Transport: &wxtoken.Transport{
		Source: src,
		Hosts:  []string{strings.TrimPrefix(platform.URL, "http://")}, // nil for the real platform
	}}

	for _, query := range []string{
		"",                                // gets the dead token, and then the next one
		"?access_token=dead-token",        // kept by other code that got it from src
		"?access_token=the-token-of-user", // is not src's
	} {
		resp, err := client.Get(platform.URL + "/cgi-bin/get_api_domain_ip" + query)
		if err != nil {
			fmt.Println(err)
			return
		}
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		fmt.Printf("%.47s %v\n", body, err)
	}
	fmt.Println("calls by errcode:", platform.Stats().Calls())
	fmt.Println("tokens fetched:", platform.Stats().Fetches().Total())
	// Output:
	// {"ip_list":["101.226.233.128","58.246.220.31"]} <nil>
	// {"ip_list":["101.226.233.128","58.246.220.31"]} <nil>
	// {"errcode":40014,"errmsg":"invalid access_token <nil>
	// calls by errcode: map[0:2 40014:3]
	// tokens fetched: 1
}

// Two apps behind the one HTTP client of an SDK that adds the tokens by itself:
// each rejected token is replaced by one of the same app.
func ExampleTransport_others() {
	platform := wxtest.NewPlatform(wxtest.WithApp("wx1", "secret"), wxtest.WithApp("wx2", "secret"))
	fetcher := func(appID string) wxtoken.Fetcher {
		return wxtoken.NewFetcher(appID, "secret", wxtoken.WithHTTPClient(platform.Client()))
	}
	official := wxtoken.New(fetcher("wx2"), nil)
	mini := wxtoken.New(fetcher("wx1"), fetchedAnHourAgo("dead-token"))
	client := &http.Client{Transport: &wxtoken.Transport{
		Source: official,
		Others: []wxtoken.TokenSource{mini},
		Base:   platform.Transport(), // nil for the real platform
	}}

	for _, src := range []*wxtoken.Source{official, mini} {
		tok, err := src.Token(context.Background()) // as the SDK does, by its adapter
		if err != nil {
			fmt.Println(err)
			return
		}
		resp, err := client.Get("https://api.weixin.qq.com/cgi-bin/get_api_domain_ip?access_token=" + tok.Value)
		if err != nil {
			fmt.Println(err)
			return
		}
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		fmt.Println(string(body), err)
	}
	fmt.Println("calls by errcode:", platform.Stats().Calls())
	// Output:
	// {"ip_list":["101.226.233.128","58.246.220.31"]} <nil>
	// {"ip_list":["101.226.233.128","58.246.220.31"]} <nil>
	// calls by errcode: map[0:2 40014:1]
}
