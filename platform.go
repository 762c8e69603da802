package wxtoken

import (
	"errors"
	"strings"

	"github.com/wxtoken/wxtoken/internal/errcode"
)

// platformOf returns the platform that f fetches from. A Fetcher in another package
// of this module reports it by a method Platform() errcode.Platform. The Fetchers of
// applications cannot, as the type is internal, and have no platform.
func platformOf(f Fetcher) errcode.Platform {
	switch f := f.(type) {
	case interface{ Platform() errcode.Platform }: // first, as it may embed an *HTTPFetcher
		return f.Platform()
	case interface{ askedPlatform() errcode.Platform }:
		return f.askedPlatform()
	case *funcFetcher:
		return ""
	}
	// A type that embeds a Fetcher hides its methods, but not its Key.
	switch prefix, _, _ := strings.Cut(f.Key(), ":"); prefix {
	case "token":
		return errcode.WeChat
	case "stable":
		return errcode.Stable
	case "wecom":
		return errcode.WeCom
	case "qq":
		return errcode.QQ
	}
	return ""
}

func (f *HTTPFetcher) askedPlatform() errcode.Platform { return f.platform }

// apiHosts returns where the tokens of a platform are used, as base URLs, in the
// order in which to try them; nil if the platform is not known.
func apiHosts(p errcode.Platform) []string {
	switch p {
	case errcode.WeChat, errcode.Stable, errcode.ThirdParty:
		return weChatHosts()
	case errcode.WeCom:
		return []string{"https://qyapi.weixin.qq.com"}
	case errcode.QQ:
		return []string{"https://api.q.qq.com"}
	}
	return nil
}

// apiHosts returns the hosts whose APIs take the tokens of s; nil if they are not
// known. An error means that no API does.
func (s *Source) apiHosts() ([]string, error) {
	switch {
	case s.fetcher == nil:
		return nil, errZeroSource
	case isTicket(s.fetcher):
		return nil, errors.New("the Transport's Source keeps tickets, which no API takes for an access_token: give it the Source of the access token")
	}
	return apiHosts(platformOf(s.fetcher)), nil
}

// An advisedError is an *APIError with the advice for the platform that sent it.
type advisedError struct {
	*APIError
	advice string
}

func (e *advisedError) Error() string { return e.text(e.advice) }

// Unwrap returns the *APIError.
func (e *advisedError) Unwrap() error { return e.APIError }

// advise returns e as an error that says what to do about it on platform p.
func advise(p errcode.Platform, e *APIError) error {
	return &advisedError{e, p.Advice(e.Code)}
}
