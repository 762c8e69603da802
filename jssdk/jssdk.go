// Package jssdk signs pages for the JS-SDK of WeChat and WeCom: it computes the
// arguments of wx.config and wx.agentConfig.
//
//	access := wxtoken.New(wxtoken.NewStableFetcher(appID, secret), cache)
//	tickets := wxtoken.New(wxtoken.NewTicketFetcher(access, "jsapi"), cache)
//	config, err := jssdk.Sign(ctx, tickets, appID, pageURL)
//
// Sign on the server: the ticket signs any page of the app's domains, so it must
// never reach a browser.
package jssdk

import (
	"context"
	"crypto/rand"
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/wxtoken/wxtoken"
	"github.com/wxtoken/wxtoken/internal/endpoint"
)

// A Config is what a page passes to wx.config, as appId, timestamp, nonceStr and
// signature, together with its own debug and jsApiList. It contains no secret.
//
// For wx.agentConfig of WeCom, AppID is the corpid, and the page passes corpid and
// agentid instead of appId.
type Config struct {
	AppID     string `json:"appId"`
	NonceStr  string `json:"nonceStr"`
	Signature string `json:"signature"` // 40 hexadecimal digits
	Timestamp int64  `json:"timestamp"` // unix time in seconds
}

// Sign signs the page at pageURL for the app or corporation appID with a ticket of
// tickets, a Source of [wxtoken.NewTicketFetcher]. For wx.config its kind is jsapi,
// for wx.agentConfig agent_config.
// pageURL must equal the page's location.href exactly, including parameters that were
// added to a shared link: let the page send it. A #fragment is removed. Sign only
// your own pages: check the host first.
//
// An error means that there is no ticket, in which case it wraps that of tickets, or
// that appID or pageURL is invalid; pageURL must be an absolute http or https URL.
func Sign(ctx context.Context, tickets wxtoken.TokenSource, appID, pageURL string) (Config, error) {
	page, err := signable(pageURL)
	switch {
	case err != nil:
		return Config{}, err
	case tickets == nil:
		return Config{}, errors.New("jssdk: nil TokenSource; pass a Source of wxtoken.NewTicketFetcher")
	case appID == "":
		return Config{}, errors.New("jssdk: appID is empty")
	case !endpoint.Printable(appID):
		return Config{}, errors.New("jssdk: appID holds a space, a control byte or a byte that is not ASCII")
	}
	ticket, err := tickets.Token(ctx)
	switch {
	case err != nil && ticket.Value != "" && strings.Contains(err.Error(), ticket.Value):
		return Config{}, errors.New("jssdk: no ticket to sign with: " + strings.ReplaceAll(err.Error(), ticket.Value, "***"))
	case err != nil:
		return Config{}, fmt.Errorf("jssdk: no ticket to sign with: %w", err)
	case ticket.Value == "" || !endpoint.Printable(ticket.Value):
		return Config{}, errors.New("jssdk: the ticket is empty, or holds a space, a control byte or a byte that is not ASCII")
	}
	c := Config{AppID: appID, Timestamp: time.Now().Unix(), NonceStr: rand.Text()}
	c.Signature = c.sign(ticket.Value, page)
	return c, nil
}

// sign computes the signature by the platform's algorithm, without escaping.
func (c Config) sign(ticket, page string) string {
	text := fmt.Sprintf("jsapi_ticket=%s&noncestr=%s&timestamp=%d&url=%s", ticket, c.NonceStr, c.Timestamp, page)
	sum := sha1.Sum([]byte(text))
	return hex.EncodeToString(sum[:])
}

// signable returns the part of a URL that is signed. Its errors do not show the URL,
// which can contain the code of a user's authorization.
func signable(pageURL string) (string, error) {
	page, _, _ := strings.Cut(pageURL, "#")
	u, err := url.Parse(page)
	switch {
	case page == "":
		return "", errors.New("jssdk: the page's URL is empty; send location.href")
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || strings.Contains(page, " "):
		return "", errors.New("jssdk: the page's URL is not of the form https://host/path; send location.href")
	}
	return page, nil
}
