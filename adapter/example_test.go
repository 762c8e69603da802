package adapter_test

import (
	"context"
	"fmt"
	"net/http"

	"github.com/wxtoken/wxtoken"
	"github.com/wxtoken/wxtoken/adapter"
	"github.com/wxtoken/wxtoken/wxtest"
)

// newSource stands for the Source that an application already has:
// wxtoken.New(wxtoken.NewFetcher(appID, secret), wxtoken.NewRedisCache(rdb)).
func newSource() (*wxtoken.Source, *wxtest.Platform) {
	platform := wxtest.NewPlatform(wxtest.WithApp("wx1", "secret"))
	return wxtoken.New(wxtoken.NewFetcher("wx1", "secret", wxtoken.WithHTTPClient(platform.Client())), nil), platform
}

func ExampleSilenceper() {
	src, platform := newSource()
	handle := adapter.Silenceper(src)
	// account.SetAccessTokenHandle(handle)
	// wc.SetHTTPClient(client), so that a rejected token is replaced; the Sources of
	// the process's other apps go into Others
	client := &http.Client{Transport: &wxtoken.Transport{Source: src}}
	_ = client

	token, err := handle.GetAccessTokenContext(context.Background())
	fmt.Println(token == platform.Latest("wx1"), err)
	// Output: true <nil>
}

func ExampleChanxuehong() {
	src, platform := newSource()
	server := adapter.Chanxuehong(src)
	// client := core.NewClient(server, nil)

	token, err := server.Token()
	fmt.Println(token == platform.Latest("wx1"), err)

	fresh, err := server.RefreshToken("one that was rejected before") // no effect on a newer one
	fmt.Println(fresh == token, err)
	// Output:
	// true <nil>
	// true <nil>
}

func ExamplePowerWeChat() {
	type HashMap map[string]any // in an application, object.HashMap of PowerLibs

	src, platform := newSource()
	getCustomToken := adapter.PowerWeChat[HashMap](src)
	// app.AccessToken.GetCustomToken = getCustomToken

	token := getCustomToken("", false)
	fmt.Println(token["access_token"] == platform.Latest("wx1"), token["expires_in"].(float64) > 7000)
	// Output: true true
}

func ExampleWeapp() {
	src, platform := newSource()
	getter := adapter.Weapp(src)
	// weapp.NewClient(appID, "", weapp.WithAccessTokenSetter(getter), weapp.WithHttpClient(client))
	client := &http.Client{Transport: &wxtoken.Transport{Source: src}}
	_ = client

	token, seconds := getter("wx1", "")
	fmt.Println(token == platform.Latest("wx1"), seconds)
	// Output: true 1
}

func ExampleFastwego() {
	type OffiAccount struct{} // in an application, offiaccount.OffiAccount

	src, platform := newSource()
	get, notice := adapter.Fastwego[OffiAccount](src)
	// app.AccessToken.GetAccessTokenHandler, app.AccessToken.NoticeAccessTokenExpireHandler = get, notice

	token, err := get(&OffiAccount{})
	fmt.Println(token == platform.Latest("wx1"), err)
	fmt.Println(notice(&OffiAccount{})) // a rejection, which is not believed of so new a token
	// Output:
	// true <nil>
	// <nil>
}

func ExampleWorkwx() {
	platform := wxtest.NewPlatform()
	platform.AddCorp("ww1", "secret")
	src := wxtoken.New(wxtoken.NewWeComFetcher("ww1", "secret", wxtoken.WithHTTPClient(platform.Client())), nil)
	provider := adapter.Workwx(src)
	// workwx.New("ww1", workwx.WithAccessTokenProvider(provider), workwx.WithHTTPClient(client)).WithApp("", agentID)
	client := &http.Client{Transport: &wxtoken.Transport{Source: src}}
	_ = client

	token, err := provider.GetToken(context.Background())
	fmt.Println(token == platform.LatestCorp("ww1", "secret"), err)
	// Output: true <nil>
}
