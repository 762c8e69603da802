package endpoint

import (
	"fmt"
	"net/url"
	"strings"
)

// CheckCredential checks both parts of a credential.
func CheckCredential(idName, id, secret string) error {
	if err := CheckValue(idName, id); err != nil {
		return err
	}
	return CheckValue("secret", secret)
}

// CheckValue looks for spaces and the like, which come from files and environment
// variables; the platform would only say "invalid". The error shows only the name.
func CheckValue(name, value string) error {
	if value == "" {
		return fmt.Errorf("wxtoken: %s is empty; nothing was sent", name)
	}
	if !Printable(value) {
		return fmt.Errorf("wxtoken: %s holds a space, a control byte or a byte that is not ASCII; nothing was sent", name)
	}
	return nil
}

// WeChatHosts returns the hosts of WeChat's APIs, as base URLs, in the order in which
// to try them.
func WeChatHosts() []string {
	return []string{"https://api.weixin.qq.com", "https://api2.weixin.qq.com",
		"https://sh.api.weixin.qq.com", "https://sz.api.weixin.qq.com", "https://hk.api.weixin.qq.com"}
}

// CheckHosts rejects what is not a URL to which a path can be added. The error does
// not show it, since it may contain a password.
func CheckHosts(urls []string) error {
	for i, s := range urls {
		u, err := url.Parse(s)
		if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Hostname() == "" ||
			u.User != nil || strings.ContainsAny(s, "?#") {
			return fmt.Errorf("URL %d is not of the form https://host[:port][/path]", i+1)
		}
	}
	return nil
}

// Printable reports whether s has only characters of a credential: no spaces, no
// control characters and only ASCII.
func Printable(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r >= 0x7f })
}
