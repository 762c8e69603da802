package wxtoken_test

import (
	"context"
	"fmt"
	"net/http"
	"net/url"

	"github.com/wxtoken/wxtoken"
	"github.com/wxtoken/wxtoken/wxtest"
)

// Encryption is switched on while some processes have no key yet.
func ExampleWithPlainRecords() {
	ctx := context.Background()
	platform := wxtest.NewPlatform(wxtest.WithApp("wx1", "secret"))
	fetcher := wxtoken.NewFetcher("wx1", "secret", wxtoken.WithHTTPClient(platform.Client()))
	cache := wxtoken.NewMemoryCache()
	var key [32]byte // from your store of secrets

	old, _ := wxtoken.New(fetcher, cache).Token(ctx)

	_, err := wxtoken.New(fetcher, cache, wxtoken.WithEncryption(key)).Token(ctx)
	fmt.Println("without:", err != nil)

	tok, err := wxtoken.New(fetcher, cache, wxtoken.WithEncryption(key), wxtoken.WithPlainRecords()).Token(ctx)
	fmt.Println("with:", tok.Value == old.Value, err)
	// Output:
	// without: true
	// with: true <nil>
}

// Tokens are fetched through a proxy whose address is on the IP whitelist.
func ExampleWithHTTPClient() {
	proxy := &url.URL{Scheme: "http", Host: "10.0.0.7:3128"}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.Proxy = http.ProxyURL(proxy)

	fetcher := wxtoken.NewStableFetcher("wx1", "secret",
		wxtoken.WithHTTPClient(&http.Client{Transport: transport}))
	src := wxtoken.New(fetcher, nil)
	fmt.Println(src)
	// Output: wxtoken.Source(wxtoken:stable:wx1)
}
