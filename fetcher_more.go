package wxtoken

import (
	"context"
	"errors"
	"fmt"
)

// accessTokens is the part of a Source that a ticket fetcher uses.
type accessTokens interface {
	TokenSource
	Invalidate(ctx context.Context, rejected string) error
}

// NewTicketFetcher fetches a ticket of kind "jsapi" or "wx_card" by GET
// cgi-bin/ticket/getticket, with an access token from src: make a second Source
// of it, on the same cache if you like. Another kind is an error from Fetch; a
// nil src panics. Asked again, the platform gives the same ticket.
//
// If it refuses the access token, src is told so, and the ticket is asked for
// once more with what src then has.
func NewTicketFetcher(src *Source, kind string, opts ...FetcherOption) *HTTPFetcher {
	if src == nil {
		panic("wxtoken: NewTicketFetcher: nil Source; pass the one that keeps the app's access token")
	}
	f := HTTPFetcher{
		key:  "ticket:" + kind + ":" + src.fetcherKey(),
		path: "/cgi-bin/ticket/getticket", field: "ticket", repeatable: true,
		params: func(accessToken string) map[string]string {
			return map[string]string{"type": kind, "access_token": accessToken}
		},
		tokens: src,
		hosts:  weChatHosts(),
	}
	if kind != "jsapi" && kind != "wx_card" {
		f.fault = fmt.Errorf("wxtoken: no ticket of kind %q; use jsapi or wx_card; nothing was sent", kind)
	}
	return newHTTPFetcher(f, opts)
}

func (f *HTTPFetcher) fetchTicket(ctx context.Context) (Token, error) {
	for again := true; ; again = false {
		access, err := f.tokens.Token(ctx)
		if err != nil {
			return Token{}, &notSentError{fmt.Errorf("wxtoken: %s: no access token to ask with: %w", f.path, err)}
		}
		ticket, err := f.fetchWith(ctx, access.Value)
		var refused *APIError
		if !again || !errors.As(err, &refused) || !IsTokenRejected(refused.Code) {
			return ticket, err
		}
		// Should src not believe it, the token may be good: the platform is
		// known to refuse such now and then.
		_ = f.tokens.Invalidate(ctx, access.Value)
	}
}

// NewWeComFetcher fetches the access token of one app of a WeCom corporation by
// GET cgi-bin/gettoken at qyapi.weixin.qq.com, which gives the same token until
// it ends or is revoked. Each app of a corporation has a secret of its own, and a
// token of its own: so the Key ends in a fingerprint of the secret, 64 bits of a
// hash keyed by it, which tells the apps apart and gives nothing away.
func NewWeComFetcher(corpID, secret string, opts ...FetcherOption) *HTTPFetcher {
	f := HTTPFetcher{
		path: "/cgi-bin/gettoken", field: "access_token", repeatable: true,
		params: func(s string) map[string]string {
			return map[string]string{"corpid": corpID, "corpsecret": s}
		},
		secret: func() string { return secret },
		hosts:  []string{"https://qyapi.weixin.qq.com"},
		fault:  checkCredential("corpID", corpID, "secret", secret),
	}
	f.key = "wecom:" + corpID + ":" + f.fingerprint("wecom key")
	return newHTTPFetcher(f, opts)
}
