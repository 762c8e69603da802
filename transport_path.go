package wxtoken

import (
	"net/url"
	"path"
	"slices"
	"strings"
)

// takesToken reports whether a request for u carries an app's access_token. Requests
// to the other endpoints carry another credential in their query or body: a user's
// token, a secret, a ticket, or the token of a third-party platform, suite or
// provider.
func takesToken(u *url.URL) bool {
	switch p := cleanPath(u); {
	case p == "/cgi-bin/token", p == "/cgi-bin/stable_token", p == "/cgi-bin/gettoken", p == "/api/getToken",
		p == "/cgi-bin/clear_quota/v2", // resets a spent quota, by secret
		strings.HasPrefix(p, "/sns/"),
		strings.HasPrefix(p, "/cgi-bin/component/"),
		strings.HasPrefix(p, "/cgi-bin/service/"): // WeCom's suites and providers
		return false
	}
	for part := range strings.SplitSeq(u.RawQuery, "&") {
		key, _, _ := strings.Cut(part, "=")
		name, err := url.QueryUnescape(key)
		if err == nil && slices.Contains([]string{"component_access_token", "suite_access_token", "provider_access_token", "cloudbase_access_token"}, name) {
			return false
		}
	}
	return true
}

// cleanPath returns the path of u as seen by a server that decodes it, merges slashes
// and resolves dots.
func cleanPath(u *url.URL) string {
	p := u.Path
	if u.Opaque != "" { // //host/path, or a path that is sent as it is
		p = u.Opaque
		if rest, ok := strings.CutPrefix(p, "//"); ok {
			_, p, _ = strings.Cut(rest, "/")
		}
		if plain, err := url.PathUnescape(p); err == nil {
			p = plain
		}
	}
	return path.Clean("/" + p)
}

// cutToken splits a raw query around the value of its access_token: the first one
// that is not empty, else the first. If there is none, before ends in a new one. The
// value is percent-encoded as in the query; before+value+after sets it.
func cutToken(query string) (before, value, after string) {
	found := false
	for start := 0; start < len(query); {
		part, _, _ := strings.Cut(query[start:], "&")
		end := start + len(part)
		key, val, _ := strings.Cut(part, "=")
		if name, err := url.QueryUnescape(key); err == nil && name == "access_token" && (!found || val != "") {
			before, value, after, found = query[:start]+key+"=", val, query[end:], true
		}
		if value != "" {
			return before, value, after
		}
		start = end + 1
	}
	if found {
		return before, "", after
	}
	if query != "" {
		query += "&"
	}
	return query + "access_token=", "", ""
}

// plainValue returns what a server reads from a value in a query.
func plainValue(escaped string) string {
	if plain, err := url.QueryUnescape(escaped); err == nil {
		return plain
	}
	return escaped
}
