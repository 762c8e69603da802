package wxtoken_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/wxtoken/wxtoken"
)

// A client that adds the token by itself, and replaces one that the platform
// refuses. Against the real platform, Hosts stays nil.
func ExampleTransport() {
	good := "second"
	platform := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.FormValue("access_token") != good {
			fmt.Println("platform: refused", r.FormValue("access_token"))
			_, _ = io.WriteString(w, `{"errcode":42001,"errmsg":"access_token expired"}`)
			return
		}
		_, _ = io.WriteString(w, `{"ip_list":["203.0.113.7"]}`)
	}))
	defer platform.Close()

	// In an application: src := wxtoken.New(wxtoken.NewFetcher(appID, secret), cache)
	src := &exampleSource{tokens: []string{"first", "second"}}
	client := &http.Client{Transport: &wxtoken.Transport{
		Source: src,
		Hosts:  []string{strings.TrimPrefix(platform.URL, "http://")},
	}}

	resp, err := client.Get(platform.URL + "/cgi-bin/get_api_domain_ip")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	fmt.Println("caller:", string(body), err)
	// Output:
	// platform: refused first
	// caller: {"ip_list":["203.0.113.7"]} <nil>
}

type exampleSource struct{ tokens []string }

func (s *exampleSource) Token(context.Context) (wxtoken.Token, error) {
	return wxtoken.Token{Value: s.tokens[0]}, nil
}

func (s *exampleSource) Invalidate(_ context.Context, rejected string) error {
	if rejected == s.tokens[0] {
		s.tokens = s.tokens[1:]
	}
	return nil
}
