package wxtoken_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/wxtoken/wxtoken"
	"github.com/wxtoken/wxtoken/wxtest"
)

// A client that adds the token by itself, and replaces one that the platform
// refuses, such as one that other code has kept for too long.
func ExampleTransport() {
	platform := wxtest.NewServer(wxtest.WithApp("wx1", "secret")) // in an application, the real one
	defer platform.Close()

	src := wxtoken.New(wxtoken.NewFetcher("wx1", "secret", wxtoken.WithBaseURL(platform.URL)), nil)
	client := &http.Client{Transport: &wxtoken.Transport{
		Source: src,
		Hosts:  []string{strings.TrimPrefix(platform.URL, "http://")}, // nil for the real platform
	}}

	for _, query := range []string{"", "?access_token=kept-for-too-long"} {
		resp, err := client.Get(platform.URL + "/cgi-bin/get_api_domain_ip" + query)
		if err != nil {
			fmt.Println(err)
			return
		}
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		fmt.Println(string(body), err)
	}
	fmt.Println("calls by errcode:", platform.Stats().Calls())
	fmt.Println("tokens fetched:", platform.Stats().Fetches().Total())
	// Output:
	// {"ip_list":["101.226.233.128","58.246.220.31"]} <nil>
	// {"ip_list":["101.226.233.128","58.246.220.31"]} <nil>
	// calls by errcode: map[0:2 40014:1]
	// tokens fetched: 1
}
