package wxtest_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wxtoken/wxtoken"
	"github.com/wxtoken/wxtoken/openplatform"
	"github.com/wxtoken/wxtoken/wxtest"
)

const api = "https://api.weixin.qq.com"

// answer holds the fields that the endpoints send.
type answer struct {
	Errcode     int
	Errmsg      string
	AccessToken string `json:"access_token"`
	ExpiresIn   int    `json:"expires_in"`
	Ticket      string
	MediaID     string `json:"media_id"`
	Echo        json.RawMessage
}

// get is the code under test in these examples.
func get(client *http.Client, url string) (answer, error) {
	resp, err := client.Get(url)
	if err != nil {
		return answer{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	var a answer
	err = json.NewDecoder(resp.Body).Decode(&a)
	return a, err
}

const fetchWx1 = api + "/cgi-bin/token?grant_type=client_credential&appid=wx1&secret=s3cret"

func Example() {
	srv := wxtest.NewServer(wxtest.WithApp("wx1", "s3cret"))
	defer srv.Close()
	client := srv.Client() // api.weixin.qq.com is srv now

	a, err := get(client, fetchWx1)
	fmt.Println(err, a.AccessToken == srv.Latest("wx1"), a.ExpiresIn)

	a, err = get(client, api+"/cgi-bin/get_api_domain_ip?access_token="+a.AccessToken)
	fmt.Println(err, a.Errcode)
	fmt.Println(srv.Stats().Fetches().Total(), "fetch")
	// Output:
	// <nil> true 7200
	// <nil> 0
	// 1 fetch
}

// A token becomes invalid early: another system fetched one, and the grace period is
// over.
func ExamplePlatform_Issue() {
	srv := wxtest.NewServer(wxtest.WithApp("wx1", "s3cret"), wxtest.WithGrace(0))
	defer srv.Close()

	a, _ := get(srv.Client(), fetchWx1)
	srv.Issue("wx1")
	fmt.Println(srv.Honoured(a.AccessToken))

	a, _ = get(srv.Client(), api+"/cgi-bin/get_api_domain_ip?access_token="+a.AccessToken)
	fmt.Println(a.Errcode)
	// Output:
	// false
	// 40001
}

// A reply is lost: the platform issued a token that no client knows.
func ExamplePlatform_Inject() {
	p := wxtest.NewPlatform(wxtest.WithApp("wx1", "s3cret"))
	p.Inject(wxtest.LostReply().On(wxtest.TokenCalls).Times(1))

	_, err := get(p.Client(), fetchWx1)
	fmt.Println(errors.Is(err, io.ErrUnexpectedEOF), p.Latest("wx1") != "")

	a, err := get(p.Client(), fetchWx1)
	fmt.Println(err, a.AccessToken == p.Latest("wx1"))
	fmt.Println(p.Stats().Faults)
	// Output:
	// true true
	// <nil> true
	// map[lost reply:1]
}

func ExampleDenial() {
	p := wxtest.NewPlatform(wxtest.WithApp("wx1", "s3cret"))
	defer p.Inject(wxtest.Denial(45009))()

	a, _ := get(p.Client(), fetchWx1)
	text, _, _ := strings.Cut(a.Errmsg, ",")
	fmt.Println(a.Errcode, text)
	// Output: 45009 reach max api daily quota limit
}

// The platform pushes a ticket, and an account authorizes the component.
func ExamplePlatform_PushTicket() {
	const key = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG"
	p := wxtest.NewPlatform(wxtest.WithComponent("wxc", "s3cret", "message token", key))
	app := openplatform.New("wxc", "s3cret", nil, openplatform.WithCallback("message token", key),
		openplatform.WithFetcherOptions(wxtoken.WithHTTPClient(p.Client())))
	p.PushThrough(wxtest.HandlerClient(app))

	fmt.Println(p.PushTicket("wxc", "https://example.com/wechat/events"))
	_, err := p.PushAuthorized("wxc", "wxshop", "https://example.com/wechat/events")
	fmt.Println(err)

	tok, err := app.Authorizer("wxshop").Token(context.Background())
	fmt.Println(tok.Value == p.LatestAuthorizer("wxc", "wxshop"), err)
	// Output:
	// <nil>
	// <nil>
	// true <nil>
}

// ExampleNewPlatform in a testing/synctest bubble needs a *testing.T, so it is
// a test: two hours pass at once.
func TestExampleNewPlatform(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := wxtest.NewPlatform(wxtest.WithApp("wx1", "s3cret"))
		a, err := get(p.Client(), fetchWx1)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Hour)

		a, err = get(p.Client(), api+"/cgi-bin/get_api_domain_ip?access_token="+a.AccessToken)
		if err != nil || a.Errcode != 42001 {
			t.Fatalf("got %v and %d (%s), want 42001: expired", err, a.Errcode, a.Errmsg)
		}
	})
}
