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
// variables; the platform would only say "invalid". The error shows the name alone.
func CheckValue(name, value string) error {
	if value == "" {
		return fmt.Errorf("wxtoken: %s is empty; nothing was sent", name)
	}
	if !Printable(value) {
		return fmt.Errorf("wxtoken: %s holds a space, a control byte or a byte that is not ASCII; nothing was sent", name)
	}
	return nil
}

// WeChatHosts are the hosts of WeChat's APIs, as base URLs, in the order in which
// they are to be tried.
func WeChatHosts() []string {
	return []string{"https://api.weixin.qq.com", "https://api2.weixin.qq.com",
		"https://sh.api.weixin.qq.com", "https://sz.api.weixin.qq.com", "https://hk.api.weixin.qq.com"}
}

// CheckHosts refuses what is no URL to put a path behind. The error does not
// show it, as it may hold a password.
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

// Printable reports whether s is free of what has no place in a credential:
// spaces, control bytes and bytes that are not ASCII.
func Printable(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r >= 0x7f })
}
