package wxtoken

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/wxtoken/wxtoken/internal/endpoint"
	"github.com/wxtoken/wxtoken/internal/errcode"
)

// NewTicketFetcher returns a [Fetcher] for tickets, which sign pages for the JS-SDK. It
// uses access tokens from src; make a second [Source] with it, on the same cache if you
// like. The kinds depend on the platform of src's Fetcher:
//
//	WeChat  jsapi, wx_card, 2 (SDK)  GET cgi-bin/ticket/getticket
//	WeCom   jsapi                    GET cgi-bin/get_jsapi_ticket, for wx.config
//	WeCom   agent_config             GET cgi-bin/ticket/get, for wx.agentConfig of src's app
//
// If wxtoken does not know src's Fetcher, such as a [FetcherFunc], it assumes WeChat.
// If there is no such kind, or src's platform has no tickets, Fetch returns an error.
// It panics if src is nil or the zero Source.
//
// Asked again, the platform returns the same ticket, and says each time that it lasts
// 7200 s. So a ticket that was not new when it was first fetched expires before its
// ExpiresAt, and no API reports it; only the page sees "invalid signature". A Source
// therefore asks again every 5 minutes, in the background, while tickets are in use,
// which is 12 of WeCom's 100 requests an hour: a page is signed with an expired
// ticket for at most that long. A repeated ticket is not extended beyond its first
// expiry or, once past that, by more than a minute at a time.
//
// If an API rejects the access token, the fetcher invalidates it in src and asks for
// the ticket once more with src's current token.
func NewTicketFetcher(src *Source, kind string, opts ...FetcherOption) *HTTPFetcher {
	switch {
	case src == nil:
		panic("wxtoken: NewTicketFetcher: nil Source; pass the one that keeps the app's access token")
	case src.fetcher == nil:
		panic(errZeroSource.Error())
	}
	p := platformOf(src.fetcher)
	path, typed, kinds := ticketPath(p, kind)
	f := HTTPFetcher{
		key:      "ticket:" + kind + ":" + src.fetcher.Key(),
		platform: p,
		endpoint: endpoint.Endpoint{
			Path: path, Field: "ticket", Repeatable: true, Hosts: ticketHosts(p),
			Params: func(accessToken string) map[string]string {
				params := map[string]string{"access_token": accessToken}
				if typed {
					params["type"] = kind
				}
				return params
			},
		},
		tokens: src,
	}
	return f.with(opts, func(*HTTPFetcher) error {
		switch {
		case isTicket(src.fetcher):
			return errors.New("wxtoken: NewTicketFetcher: the Source keeps tickets; pass the one that keeps the app's access token; nothing was sent")
		case kinds == "":
			return errors.New("wxtoken: NewTicketFetcher: the platform of the Source has no tickets; nothing was sent")
		case path == "":
			return fmt.Errorf("wxtoken: no ticket of kind %q; use %s; nothing was sent", kind, kinds)
		}
		return nil
	})
}

// ticketHosts returns the hosts that issue tickets for tokens of p.
func ticketHosts(p errcode.Platform) []string {
	if hosts := apiHosts(p); hosts != nil {
		return hosts
	}
	return weChatHosts()
}

// ticketPath returns the path for tickets of a kind, or "" if there is none; whether
// the request names the kind; and which kinds there are.
func ticketPath(p errcode.Platform, kind string) (path string, typed bool, kinds string) {
	switch p {
	case errcode.WeCom:
		kinds = "jsapi or agent_config"
		switch kind {
		case "jsapi":
			return "/cgi-bin/get_jsapi_ticket", false, kinds
		case "agent_config":
			return "/cgi-bin/ticket/get", true, kinds
		}
	case errcode.WeChat, errcode.Stable, errcode.ThirdParty, "":
		kinds = "jsapi, wx_card or 2"
		switch kind {
		case "jsapi", "wx_card", "2":
			return "/cgi-bin/ticket/getticket", true, kinds
		}
	}
	return "", false, kinds
}

// isTicket reports whether f fetches tickets. The platform repeats these with their
// full lifetime, so a repeat says nothing new about the expiry. A type that embeds a
// Fetcher hides the method, but not the Key.
func isTicket(f Fetcher) bool {
	if t, ok := f.(interface{ repeatsFullLife() bool }); ok {
		return t.repeatsFullLife()
	}
	_, ours := f.(*funcFetcher)
	return !ours && strings.HasPrefix(f.Key(), "ticket:")
}

func (f *HTTPFetcher) repeatsFullLife() bool { return f.tokens != nil }

func (f *HTTPFetcher) fetchTicket(ctx context.Context) (Token, error) {
	for again := true; ; again = false {
		access, err := f.tokens.Token(ctx)
		if err != nil {
			return Token{}, &endpoint.Unsent{Err: fmt.Errorf("wxtoken: %s: no access token to ask with: %w", f.endpoint.Path, err)}
		}
		ticket, err := f.fetchWith(ctx, access.Value)
		var denied *APIError
		if !errors.As(err, &denied) || !IsTokenRejected(denied.Code) {
			return ticket, err
		}
		if !again { // no ticket was issued: src is what needs fixing
			return Token{}, &endpoint.Unsent{Err: fmt.Errorf("wxtoken: %s: the access token was rejected twice: %w", f.endpoint.Path, err)}
		}
		// If src does not believe it, the token may be good: the platform is
		// known to reject good tokens now and then.
		_ = f.tokens.Invalidate(ctx, access.Value)
	}
}
