package wxtoken

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode"

	"github.com/wxtoken/wxtoken/internal/endpoint"
)

// An Endpoint describes where the tokens of a platform are fetched and what the
// answer looks like, for [NewEndpointFetcher]. The answer is a JSON object; nested
// names are dotted, such as "data.access_token". Every way of printing an Endpoint
// hides Params and the query of URL, which hold the secret.
type Endpoint struct {
	// URL is an absolute http or https URL. Its query is kept, before Params.
	URL string

	// Method is GET, the default, which sends Params in the query, or POST, which
	// sends them as a JSON object of strings.
	Method string

	// Form makes POST send a form instead of JSON.
	Form bool

	// Params are the parameters to send, the secret included: {secret} in a value
	// stands for the secret of WithSecretFunc. No value may be empty.
	Params map[string]string

	// Token names the string in the answer that is the token.
	Token string

	// ExpiresIn names the token's lifetime in seconds: a whole number from 1 to
	// 2592000, which may be quoted.
	ExpiresIn string

	// Code names the error code in the answer; "" means that there is none. A number
	// or string there other than 0 and "" is a denial, which Fetch returns as an
	// *APIError; if OK is set, so is anything but OK. Without Code, any answer
	// without a token is an error after which a token may have been issued. A code
	// that is not a 32-bit integer, or is 0 although OK differs, becomes
	// APIError.Code -2 and begins the Message.
	Code string

	// OK is the code of success, if that is not 0.
	OK string

	// Message names the text that comes with Code.
	Message string

	// Repeatable says that fetching twice is harmless: see the function Repeatable.
	// If in doubt, leave it false.
	Repeatable bool
}

// String shows the URL without its query, and none of the Params.
func (e Endpoint) String() string {
	u, err := url.Parse(e.URL)
	if err != nil {
		return "Endpoint(URL unreadable)"
	}
	where := url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path, RawPath: u.RawPath}
	return fmt.Sprintf("Endpoint(%s, %d params)", where.String(), len(e.Params))
}

// Format prints String for every verb of package fmt.
func (e Endpoint) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(e.String())) }

// LogValue is String for log/slog.
func (e Endpoint) LogValue() slog.Value { return slog.StringValue(e.String()) }

// MarshalText is String, so that JSON and the like show no secret either.
func (e Endpoint) MarshalText() ([]byte, error) { return []byte(e.String()), nil }

// NewEndpointFetcher returns a [Fetcher] for any platform whose endpoint e describes. A
// [Source] keeps the token under key, which names the platform and the app and must not
// contain the secret. [WithBaseURL] replaces the scheme and host of e.URL. If e is
// incomplete or invalid, Fetch sends nothing and returns an error.
func NewEndpointFetcher(key string, e Endpoint, opts ...FetcherOption) *HTTPFetcher {
	params := maps.Clone(e.Params)
	f := HTTPFetcher{
		key: key,
		endpoint: endpoint.Endpoint{
			Post: e.Form || e.Method == http.MethodPost, Form: e.Form, Repeatable: e.Repeatable, AllSecret: true,
			Answer: endpoint.Answer{Token: e.Token, ExpiresIn: e.ExpiresIn, Code: e.Code, OK: e.OK, Message: e.Message},
			Params: func(string) map[string]string { return params },
		},
	}
	if u, err := url.Parse(e.URL); err == nil {
		f.endpoint.Hosts = []string{u.Scheme + "://" + u.Host}
		f.endpoint.Path, f.endpoint.Query = cmp.Or(u.EscapedPath(), "/"), u.RawQuery
	}
	all, _ := json.Marshal(params) // of strings: cannot fail
	f.secret = fixedSecret(string(all))
	return f.with(opts, func(f *HTTPFetcher) error {
		asked := f.secret.fixed == nil
		if asked {
			f.endpoint.Params = func(secret string) map[string]string { return withSecret(params, secret) }
		}
		if err := e.check(key, params, asked); err != nil {
			return fmt.Errorf("wxtoken: NewEndpointFetcher: %w; nothing was sent", err)
		}
		return nil
	})
}

const placeholder = "{secret}"

func withSecret(params map[string]string, secret string) map[string]string {
	filled := map[string]string{}
	for name, value := range params {
		filled[name] = strings.ReplaceAll(value, placeholder, secret)
	}
	return filled
}

// check reports what is wrong with e, without showing the URL or any value.
func (e Endpoint) check(key string, params map[string]string, asked bool) error {
	for _, c := range []struct{ name, value string }{
		{"key", key}, {"Endpoint.URL", e.URL}, {"Endpoint.Token", e.Token}, {"Endpoint.ExpiresIn", e.ExpiresIn},
	} {
		if c.value == "" {
			return fmt.Errorf("%s is empty", c.name)
		}
	}
	bare, _, _ := strings.Cut(e.URL, "?")
	switch {
	case endpoint.CheckHosts([]string{bare}) != nil || strings.Contains(e.URL, "#") || !endpoint.Printable(e.URL):
		return errors.New("Endpoint.URL is not of the form https://host[:port][/path][?query]")
	case e.Method != "" && e.Method != http.MethodGet && e.Method != http.MethodPost:
		return fmt.Errorf("Endpoint.Method %.20q: use GET or POST", e.Method)
	case e.Form && e.Method == http.MethodGet:
		return errors.New("Endpoint.Form needs the Method POST")
	case e.OK != "" && e.Code == "":
		return errors.New("Endpoint.OK needs a Code")
	}
	return checkParams(params, asked)
}

func checkParams(params map[string]string, asked bool) error {
	placed := false
	for _, name := range slices.Sorted(maps.Keys(params)) {
		value := params[name]
		placed = placed || strings.Contains(value, placeholder)
		switch {
		case name == "":
			return errors.New("Endpoint.Params has a parameter without a name")
		case value == "":
			return fmt.Errorf("Endpoint.Params: %q is empty", name)
		case strings.TrimSpace(value) != value || strings.ContainsFunc(value, unicode.IsControl):
			return fmt.Errorf("Endpoint.Params: %q begins or ends with a space, or holds a control byte", name)
		}
	}
	switch {
	case asked && !placed:
		return errors.New("WithSecretFunc needs {secret} in a value of Endpoint.Params, to know where the secret goes")
	case placed && !asked:
		return errors.New("Endpoint.Params has {secret}: give WithSecretFunc, or the secret itself")
	}
	return nil
}
