package wxtoken

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken/internal/fetchtest"
)

// described is an Endpoint that works, once WithBaseURL says where.
func described() Endpoint {
	return Endpoint{
		URL: "https://platform.example/oauth/token/?v=2", Token: "access_token", ExpiresIn: "expires_in", Code: "errcode",
		Params: map[string]string{"id": "1", "secret": fetchtest.Secret},
	}
}

func TestEndpointRequests(t *testing.T) {
	var got string
	base, _ := fetchtest.Serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got = fmt.Sprintf("%s %s %s", r.Method, r.RequestURI, body)
		fetchtest.Answer(200, fetchtest.Good)(w, r)
	})
	host := strings.TrimPrefix(base, "http://")
	query := url.Values{"id": {"1"}, "secret": {fetchtest.Secret}}.Encode()
	const object = `{"id":"1","secret":"MarkedSecret/with+odd\u0026signs%\"0123456789"}`
	for name, test := range map[string]struct {
		edit func(*Endpoint)
		base string
		want string
	}{
		"GET by default":      {func(*Endpoint) {}, base, "GET /oauth/token/?v=2&" + query + " "},
		"GET":                 {func(e *Endpoint) { e.Method = "GET" }, base, "GET /oauth/token/?v=2&" + query + " "},
		"POST":                {func(e *Endpoint) { e.Method = "POST" }, base, "POST /oauth/token/?v=2 " + object},
		"form":                {func(e *Endpoint) { e.Method, e.Form = "POST", true }, base, "POST /oauth/token/?v=2 " + query},
		"form, no method":     {func(e *Endpoint) { e.Form = true }, base, "POST /oauth/token/?v=2 " + query},
		"base with a path":    {func(e *Endpoint) { e.Method = "POST" }, base + "/proxy/", "POST /proxy/oauth/token/?v=2 " + object},
		"its own host":        {func(e *Endpoint) { e.URL = "http://" + host + "/t" }, "", "GET /t?" + query + " "},
		"no slash at the end": {func(e *Endpoint) { e.URL = "http://" + host + "/a%2Fb/t" }, base, "GET /a%2Fb/t?" + query + " "},
		"no path":             {func(e *Endpoint) { e.URL = "http://" + host }, base, "GET /?" + query + " "},
		"no params":           {func(e *Endpoint) { e.Params = nil }, base, "GET /oauth/token/?v=2 "},
	} {
		t.Run(name, func(t *testing.T) {
			e := described()
			test.edit(&e)
			var opts []FetcherOption
			if test.base != "" {
				opts = append(opts, WithBaseURL(test.base))
			}
			for _, repeatable := range []bool{false, true} {
				e.Repeatable = repeatable
				f := NewEndpointFetcher("mine", e, opts...)
				if e.Params != nil {
					e.Params["id"] = "changed later"
				}
				before := time.Now()
				tok, err := f.Fetch(t.Context())
				require.NoError(t, err)
				assert.Equal(t, fetchtest.Token, tok.Value)
				assert.WithinRange(t, tok.ExpiresAt, before.Round(0).Add(2*time.Hour), time.Now().Add(2*time.Hour))
				assert.Equal(t, test.want, got)
				assert.Equal(t, "mine", f.Key())
				assert.Equal(t, repeatable, f.Repeatable())
				if e.Params != nil {
					e.Params["id"] = "1"
				}
			}
		})
	}
}

func TestBadEndpoints(t *testing.T) {
	base, requests := fetchtest.Serve(t, fetchtest.Answer(200, fetchtest.Good))
	badURL := "Endpoint.URL is not of the form https://host[:port][/path][?query]"
	for name, test := range map[string]struct {
		edit func(*Endpoint)
		want string
	}{
		"no URL":               {func(e *Endpoint) { e.URL = "" }, "Endpoint.URL is empty"},
		"no Token":             {func(e *Endpoint) { e.Token = "" }, "Endpoint.Token is empty"},
		"no ExpiresIn":         {func(e *Endpoint) { e.ExpiresIn = "" }, "Endpoint.ExpiresIn is empty"},
		"OK without Code":      {func(e *Endpoint) { e.OK, e.Code = "1", "" }, "Endpoint.OK needs a Code"},
		"method":               {func(e *Endpoint) { e.Method = "PUT" }, `Endpoint.Method "PUT": use GET or POST`},
		"method in lower case": {func(e *Endpoint) { e.Method = "post" }, `Endpoint.Method "post": use GET or POST`},
		"form with GET":        {func(e *Endpoint) { e.Method, e.Form = "GET", true }, "Endpoint.Form needs the Method POST"},
		"empty param":          {func(e *Endpoint) { e.Params["secret"] = "" }, `Endpoint.Params: "secret" is empty`},
		"param without name":   {func(e *Endpoint) { e.Params[""] = "x" }, "a parameter without a name"},
		"newline":              {func(e *Endpoint) { e.Params["secret"] += "\n" }, `"secret" begins or ends with a space`},
		"space before":         {func(e *Endpoint) { e.Params["secret"] = " " + fetchtest.Secret }, `"secret" begins or ends with a space`},
		"control byte":         {func(e *Endpoint) { e.Params["secret"] += "\x00x" }, `"secret" begins or ends with a space, or holds a control byte`},
		"no scheme":            {func(e *Endpoint) { e.URL = "platform.example/t" }, badURL},
		"relative":             {func(e *Endpoint) { e.URL = "/t" }, badURL},
		"ftp":                  {func(e *Endpoint) { e.URL = "ftp://platform.example/t" }, badURL},
		"no host":              {func(e *Endpoint) { e.URL = "https:///t" }, badURL},
		"password":             {func(e *Endpoint) { e.URL = "https://me:MarkedSecret@platform.example/t" }, badURL},
		"fragment":             {func(e *Endpoint) { e.URL = "https://platform.example/t#MarkedSecret" }, badURL},
		"fragment after query": {func(e *Endpoint) { e.URL = "https://platform.example/t?a=b#MarkedSecret" }, badURL},
		"space":                {func(e *Endpoint) { e.URL = "https://platform.example/t?k=Marked Secret" }, badURL},
		"unreadable":           {func(e *Endpoint) { e.URL = "https://MarkedSecret%zz/t" }, badURL},
	} {
		t.Run(name, func(t *testing.T) {
			e := described()
			test.edit(&e)
			_, err := NewEndpointFetcher("mine", e, WithBaseURL(base)).Fetch(t.Context())
			require.ErrorContains(t, err, test.want)
			assert.ErrorContains(t, err, "nothing was sent")
			assert.True(t, strings.HasPrefix(err.Error(), "wxtoken: NewEndpointFetcher: "), err)
			assert.Equal(t, "not sent", outcome(err))
			fetchtest.NoLeak(t, err)
		})
	}
	_, err := NewEndpointFetcher("", described(), WithBaseURL(base)).Fetch(t.Context())
	assert.EqualError(t, err, "wxtoken: NewEndpointFetcher: key is empty; nothing was sent")
	_, err = NewEndpointFetcher("mine", described(), WithBaseURL("nowhere")).Fetch(t.Context())
	assert.ErrorContains(t, err, "WithBaseURL: URL 1")
	assert.Zero(t, requests.Load())
}

func TestEndpointAnswers(t *testing.T) {
	for name, test := range map[string]struct {
		status int
		body   string
		want   any // nil: issued; an APIError; or part of another error
	}{
		"issued":         {200, fetchtest.Good, nil},
		"code 0":         {200, `{"errcode":"0","access_token":"` + fetchtest.Token + `","expires_in":"7200"}`, nil},
		"denied":         {200, `{"errcode":40013,"errmsg":"bad id"}`, APIError{40013, "bad id"}},
		"denied, status": {400, `{"errcode":40013,"errmsg":"bad id"}`, APIError{40013, "bad id"}},
		"a word":         {400, `{"errcode":"invalidClientId","errmsg":"bad"}`, APIError{-2, "invalidClientId: bad"}},
		"a word alone":   {401, `{"errcode":"invalidClientId"}`, APIError{-2, "invalidClientId"}},
		"echo":           {200, `{"errcode":1,"errmsg":"bad ` + url.QueryEscape(fetchtest.Secret) + `"}`, APIError{1, "bad ***"}},
		"no JSON":        {200, "<html>" + url.PathEscape(fetchtest.Secret), "not a JSON object"},
		"status alone":   {500, `{}`, "HTTP 500"},
		"no token":       {200, `{"errcode":0}`, "access_token is missing"},
	} {
		t.Run(name, func(t *testing.T) {
			base, requests := fetchtest.Serve(t, fetchtest.Answer(test.status, test.body))
			e := described()
			e.Message = "errmsg"
			_, err := NewEndpointFetcher("mine", e, WithBaseURL(base)).Fetch(t.Context())
			assert.EqualValues(t, 1, requests.Load())
			fetchtest.NoLeak(t, err)
			var denied *APIError
			switch want := test.want.(type) {
			case APIError:
				require.ErrorAs(t, err, &denied)
				assert.Equal(t, want, *denied)
				assert.Equal(t, "refused", outcome(err))
			case string:
				assert.ErrorContains(t, err, want)
				assert.Equal(t, "unknown", outcome(err))
			default:
				assert.NoError(t, err)
			}
		})
	}
}

// The query of the URL may hold a secret, too.
func TestEndpointShowsNoSecret(t *testing.T) {
	e := described()
	e.URL = "https://me:MarkedSecret@platform.example/t?key=MarkedSecret"
	var text bytes.Buffer
	for _, v := range []any{e, &e, []Endpoint{e}, map[string]any{"e": e}, struct{ E Endpoint }{e}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
			fmt.Fprintf(&text, verb+"\n", v)
		}
		b, err := json.Marshal(v)
		require.NoError(t, err)
		text.Write(b)
		slog.New(slog.NewTextHandler(&text, nil)).Info("m", "v", v)
		slog.New(slog.NewJSONHandler(&text, nil)).Info("m", "v", v)
	}
	b, err := xml.Marshal(e)
	require.NoError(t, err)
	text.Write(b)
	assert.NotContains(t, text.String(), "Marked")
	assert.NotContains(t, text.String(), fmt.Sprintf("%x", "Marked"))
	assert.Equal(t, "Endpoint(https://platform.example/t, 2 params)", e.String())
	assert.Equal(t, "Endpoint(URL unreadable)", Endpoint{URL: "https://MarkedSecret%zz"}.String())
	assert.Equal(t, "Endpoint(, 0 params)", Endpoint{}.String())

	// It can be read from a configuration all the same.
	var read Endpoint
	require.NoError(t, json.Unmarshal([]byte(`{"url":"https://h/t","method":"POST","params":{"a":"b"},"token":"t"}`), &read))
	assert.Equal(t, Endpoint{URL: "https://h/t", Method: "POST", Params: map[string]string{"a": "b"}, Token: "t"}, read)
}

// A request that may be answered is not repeated unless e is Repeatable.
func TestEndpointRepeats(t *testing.T) {
	for repeatable, want := range map[bool]int32{false: 1, true: 3} {
		base, requests := fetchtest.Serve(t, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
		e := described()
		e.Method, e.Repeatable = "POST", repeatable
		_, err := NewEndpointFetcher("mine", e, WithBaseURL(base)).Fetch(t.Context())
		assert.Equal(t, "unknown", outcome(err))
		assert.Equal(t, want, requests.Load())
		assert.True(t, errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF), err)
	}
}
