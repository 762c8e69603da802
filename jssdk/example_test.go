package jssdk_test

import (
	"context"
	"crypto/sha1"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"

	"github.com/wxtoken/wxtoken"
	"github.com/wxtoken/wxtoken/jssdk"
	"github.com/wxtoken/wxtoken/wxtest"
)

func ExampleSign() {
	platform := wxtest.NewPlatform(wxtest.WithApp("wx1", "s3cret"))
	client := wxtoken.WithHTTPClient(platform.Client())

	access := wxtoken.New(wxtoken.NewStableFetcher("wx1", "s3cret", client), nil)
	tickets := wxtoken.New(wxtoken.NewTicketFetcher(access, "jsapi", client), nil)
	config, err := jssdk.Sign(context.Background(), tickets, "wx1", "https://shop.example/cart?id=7#items")

	text := fmt.Sprintf("jsapi_ticket=%s&noncestr=%s&timestamp=%d&url=%s",
		platform.LatestTicket("wx1", "jsapi"), config.NonceStr, config.Timestamp, "https://shop.example/cart?id=7")
	fmt.Println(config.AppID, config.Signature == fmt.Sprintf("%x", sha1.Sum([]byte(text))), err)
	// Output: wx1 true <nil>
}

// A handler that serves the configuration to a page of one host:
//
//	fetch("/wx/config?url=" + encodeURIComponent(location.href.split("#")[0]))
//	    .then(answer => answer.json())
//	    .then(config => wx.config({...config, jsApiList: ["scanQRCode"]}))
func ExampleSign_handler() {
	platform := wxtest.NewPlatform(wxtest.WithApp("wx1", "s3cret"))
	client := wxtoken.WithHTTPClient(platform.Client())
	access := wxtoken.New(wxtoken.NewStableFetcher("wx1", "s3cret", client), nil)
	tickets := wxtoken.New(wxtoken.NewTicketFetcher(access, "jsapi", client), nil)

	handler := func(w http.ResponseWriter, r *http.Request) {
		page := r.FormValue("url")
		if u, err := url.Parse(page); err != nil || u.Hostname() != "shop.example" {
			http.Error(w, "not a page of shop.example", http.StatusForbidden)
			return
		}
		config, err := jssdk.Sign(r.Context(), tickets, "wx1", page)
		if err != nil { // it contains no ticket, but belongs in the log
			http.Error(w, "no ticket now", http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store") // a signature is for one page, and for a short while
		_ = json.NewEncoder(w).Encode(config)
	}

	for _, page := range []string{"https://shop.example/cart", "https://evil.example/"} {
		w := httptest.NewRecorder()
		handler(w, httptest.NewRequest("GET", "/wx/config?url="+url.QueryEscape(page), nil))
		var config jssdk.Config
		_ = json.NewDecoder(w.Body).Decode(&config)
		fmt.Println(w.Code, config.AppID, len(config.Signature))
	}
	// Output:
	// 200 wx1 40
	// 403  0
}

// WeCom has two signatures: for wx.config, with the corporation's ticket, and for
// wx.agentConfig, with the ticket of one app.
func ExampleSign_wecom() {
	platform := wxtest.NewPlatform()
	platform.AddCorp("ww1", "s3cret-of-the-app")
	client := wxtoken.WithHTTPClient(platform.Client())

	access := wxtoken.New(wxtoken.NewWeComFetcher("ww1", "s3cret-of-the-app", client), nil)
	for _, kind := range []string{"jsapi", "agent_config"} {
		tickets := wxtoken.New(wxtoken.NewTicketFetcher(access, kind, client), nil)
		config, err := jssdk.Sign(context.Background(), tickets, "ww1", "https://intra.example/")
		fmt.Println(kind, config.AppID, len(config.Signature), err)
	}
	// Output:
	// jsapi ww1 40 <nil>
	// agent_config ww1 40 <nil>
}
