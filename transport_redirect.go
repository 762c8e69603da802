package wxtoken

import (
	"encoding/base64"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// guardRedirect removes added, the token that this Transport put into req, if any,
// from the Location of resp. If the Location is outside hosts, it removes all
// credentials that req carries, and where net/http would send the body there too, the
// Location itself.
func (t *Transport) guardRedirect(hosts []string, req *http.Request, resp *http.Response, added string) {
	to := resp.Header.Get("Location")
	if to == "" {
		return
	}
	var secrets []string
	if added != "" {
		secrets = append(secrets, added)
	}
	clean := to
	if u, err := req.URL.Parse(to); err != nil || !t.allows(hosts, u) {
		secrets = append(secrets, credentials(req.URL.RawQuery)...)
		repeated := resp.StatusCode == http.StatusTemporaryRedirect || resp.StatusCode == http.StatusPermanentRedirect
		if repeated && req.Body != nil && req.Body != http.NoBody {
			clean = ""
		}
	}
	for _, secret := range secrets {
		clean = withoutSecret(clean, secret)
	}
	switch clean {
	case to:
	case "":
		resp.Header.Del("Location") // net/http then returns the answer as it is
	default:
		resp.Header.Set("Location", clean)
	}
}

// withoutReferer removes the Referer that http.Client sets when it follows a redirect
// out of hosts: it holds the last URL, with a token if the caller put one there.
func (t *Transport) withoutReferer(hosts []string, req *http.Request) *http.Request {
	from, err := url.Parse(req.Header.Get("Referer"))
	if req.Response == nil || err != nil || !t.allows(hosts, from) {
		return req
	}
	out := req.Clone(req.Context())
	out.Header.Del("Referer")
	return out
}

// credentials returns the values of a raw query that are secret by their name. A
// short value that is not an access_token is assumed to be something else.
func credentials(query string) []string {
	var values []string
	for part := range strings.SplitSeq(query, "&") {
		key, value, _ := strings.Cut(part, "=")
		name, value := plainValue(key), plainValue(value)
		secret := strings.HasSuffix(name, "token") || strings.HasSuffix(name, "secret") || strings.HasSuffix(name, "ticket")
		if value != "" && (name == "access_token" || secret && len(value) >= 8) {
			values = append(values, value)
		}
	}
	return values
}

// withoutSecret returns location without secret: without the places where it stands
// plainly or, if it still shows, without query and fragment, or "".
func withoutSecret(location, secret string) string {
	if !shows(location, secret) {
		return location
	}
	target, query, found := strings.Cut(location, "?")
	before, value, after := cutToken(query)
	for found && value != "" && plainValue(value) == secret {
		location = target + "?" + before + after
		before, value, after = cutToken(before + after)
	}
	for _, spelled := range []string{url.QueryEscape(secret), url.PathEscape(secret), secret} {
		location = strings.ReplaceAll(location, spelled, "")
	}
	if _, err := url.Parse(location); err != nil || shows(location, secret) {
		location = location[:min(len(target), len(location))]
		location, _, _ = strings.Cut(location, "?")
		location, _, _ = strings.Cut(location, "#")
	}
	if shows(location, secret) {
		return ""
	}
	return location
}

// shows reports whether text contains secret: plainly, percent-encoded in whole or in
// part, once or more, with letters in the other case, as in a host, or inside
// something encoded as base64. It may also report true for a text that only looks
// similar.
func shows(text, secret string) bool {
	spelled := []string{fold(secret)}
	for before := range 3 { // bytes in a group of three that precede the secret
		encoded := base64.RawStdEncoding.EncodeToString([]byte("\x00\x00"[:before] + secret))
		encoded = encoded[(before*8+5)/6 : (before+len(secret))*8/6] // what depends on it alone
		if len(encoded) >= 8 {
			spelled = append(spelled, fold(encoded))
		}
	}
	for range 8 {
		folded := fold(text)
		if slices.ContainsFunc(spelled, func(s string) bool { return strings.Contains(folded, s) }) {
			return true
		}
		plain := unescape(text)
		if plain == text {
			return false
		}
		text = plain
	}
	return true // encoded so often only to hide something
}

// fold maps bytes that stand for the same thing to one: letters in either case, the
// two alphabets of base64, and the plus that means a space.
func fold(s string) string {
	b := []byte(s)
	for i, c := range b {
		switch {
		case 'A' <= c && c <= 'Z':
			b[i] += 'a' - 'A'
		case c == '+' || c == ' ':
			b[i] = '-'
		case c == '/':
			b[i] = '_'
		}
	}
	return string(b)
}

// unescape decodes once whatever can be decoded.
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			if c, err := strconv.ParseUint(s[i+1:i+3], 16, 8); err == nil {
				b.WriteByte(byte(c))
				i += 2
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
