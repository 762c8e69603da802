package endpoint

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken/internal/fetchtest"
)

func TestBadAnswers(t *testing.T) {
	redirect := func(to string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", to+"?"+r.URL.RawQuery)
			w.WriteHeader(http.StatusFound)
		}
	}
	raw := func(reply string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			conn, _, err := w.(http.Hijacker).Hijack()
			if err == nil {
				_, _ = io.WriteString(conn, reply)
				_ = conn.Close()
			}
		}
	}
	tests := map[string]struct {
		serve http.HandlerFunc
		want  string
	}{
		"empty":                 {fetchtest.Answer(200, ""), "not a JSON object"},
		"truncated":             {fetchtest.Answer(200, fetchtest.Good[:40]), "not a JSON object"},
		"trailing garbage":      {fetchtest.Answer(200, fetchtest.Good+"}"), "not a JSON object"},
		"HTML":                  {fetchtest.Answer(200, "<html>\x00 Log in"), `"<html>\x00 Log in"`},
		"array":                 {fetchtest.Answer(200, "["+fetchtest.Good+"]"), "not a JSON object"},
		"null":                  {fetchtest.Answer(200, "null"), "access_token is missing"},
		"no fields":             {fetchtest.Answer(200, "{}"), "access_token is missing"},
		"errcode 0 alone":       {fetchtest.Answer(200, `{"errcode":0,"errmsg":"ok"}`), "access_token is missing"},
		"unreadable errcode":    {fetchtest.Answer(200, `{"errcode":{}}`), "errcode is not"},
		"errcode true":          {fetchtest.Answer(200, `{"errcode":true}`), "errcode is not a number or a string"},
		"errcode a list":        {fetchtest.Answer(200, `{"errcode":[40013]}`), "errcode is not"},
		"token empty":           {fetchtest.Answer(200, `{"access_token":"","expires_in":7200}`), `{\"access_token\":\"\",`},
		"token not a string":    {fetchtest.Answer(200, `{"access_token":1,"expires_in":7200}`), "access_token is missing"},
		"token with a space":    {fetchtest.Answer(200, `{"access_token":"`+fetchtest.Token+` x","expires_in":7200}`), "access_token is over 4096 bytes, or holds a space"},
		"token with a newline":  {fetchtest.Answer(200, `{"access_token":"MarkedToken\n0","expires_in":7200}`), "holds a space"},
		"token not ASCII":       {fetchtest.Answer(200, `{"access_token":"MarkedToken\u00e9","expires_in":7200}`), "holds a space"},
		"token too long":        {fetchtest.Answer(200, `{"access_token":"`+strings.Repeat("x", 4097)+`","expires_in":7200}`), "over 4096 bytes"},
		"no expires_in":         {fetchtest.Answer(200, `{"access_token":"`+fetchtest.Token+`"}`), "expires_in is not a whole number of seconds from 1 to 2592000"},
		"server error":          {fetchtest.Answer(502, "<html>"), "HTTP 502"},
		"server error, token":   {fetchtest.Answer(500, fetchtest.Good), "HTTP 500"},
		"forbidden":             {fetchtest.Answer(403, "go away"), `HTTP 403: no success and no errcode; the answer begins with "go away"`},
		"redirect":              {redirect("https://evil.example/x"), "redirect to evil.example, which is not followed"},
		"redirect to nonsense":  {redirect("http://%zz"), "redirect"},
		"broken header":         {raw(fetchtest.Good + "\n\n"), "no answer"},
		"broken header, secret": {raw("HTTP/1.1 " + fetchtest.Secret + "\r\n\r\n"), "no answer"},
		"short body":            {raw("HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n" + fetchtest.Good), "no answer"},
		"hang-up":               {raw(""), "EOF"},
		"echo": {func(w http.ResponseWriter, r *http.Request) {
			_, _ = fmt.Fprintf(w, "cannot parse %s / %s / %q", r.RequestURI, r.FormValue("secret"), "secret: "+r.FormValue("secret"))
		}, "not a JSON object"},
		"endless": {func(w http.ResponseWriter, r *http.Request) {
			for err := error(nil); err == nil && r.Context().Err() == nil; {
				_, err = w.Write([]byte(strings.Repeat(fetchtest.Token+" ", 100)))
			}
		}, "over 65536 bytes"},
	}
	for _, value := range []string{`0`, `-1`, `"0"`, `""`, `"x"`, `" "`, `"0x1c20"`, `"7200s"`, `7200.5`, `"7200.5"`, `1e99`, `1e400`, `"NaN"`, `"Inf"`, `2592001`, `null`, `true`, `[7200]`} {
		tests["expires_in "+value] = struct {
			serve http.HandlerFunc
			want  string
		}{fetchtest.Answer(200, `{"access_token":"`+fetchtest.Token+`","expires_in":`+value+`}`), "expires_in is not a whole number"}
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			base, requests := fetchtest.Serve(t, test.serve)
			tok, err := fetch(t.Context(), plain(nil, base, base))
			require.ErrorContains(t, err, test.want)
			assert.True(t, strings.HasPrefix(err.Error(), "wxtoken: /cgi-bin/token at 127.0.0.1:"), err)
			assert.Equal(t, "unknown", outcome(err))
			assert.Zero(t, tok)
			assert.Less(t, len(err.Error()), 600)
			assert.NotContains(t, err.Error(), "MarkedToken")
			assert.EqualValues(t, 1, requests.Load(), "a second request, although the first may have been answered")
			fetchtest.NoLeak(t, err)
		})
	}
}

func TestGoodAnswers(t *testing.T) {
	for name, test := range map[string]struct {
		body string
		want time.Duration
	}{
		"plain":           {fetchtest.Good, 2 * time.Hour},
		"byte order mark": {"\ufeff" + fetchtest.Good, 2 * time.Hour},
		"errcode 0":       {`{"errcode":0,"errmsg":"ok","access_token":"` + fetchtest.Token + `","expires_in":7200}` + "\r\n", 2 * time.Hour},
		"string":          {`{"access_token":"` + fetchtest.Token + `","expires_in":"300"}`, 5 * time.Minute},
		"7200.0":          {`{"access_token":"` + fetchtest.Token + `","expires_in":7200.0}`, 2 * time.Hour},
		"7.2e3":           {`{"access_token":"` + fetchtest.Token + `","expires_in":7.2e3}`, 2 * time.Hour},
		"thirty days":     {`{"access_token":"` + fetchtest.Token + `","expires_in":2592000}`, maxLifetime},
		"quoted errcode":  {`{"errcode":"0","access_token":"` + fetchtest.Token + `","expires_in":1}`, time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			value, lifetime, err := weChat("access_token").decode([]byte(test.body))
			require.NoError(t, err)
			assert.Equal(t, fetchtest.Token, value)
			assert.Equal(t, test.want, lifetime)
		})
	}
}

func TestDenials(t *testing.T) {
	for name, test := range map[string]struct {
		status int
		body   string
		want   Denial
	}{
		"plain":           {200, `{"errcode":40013,"errmsg":"invalid appid rid: 6aac005a-01bfdbee-79769285"}`, Denial{40013, "invalid appid rid: 6aac005a-01bfdbee-79769285"}},
		"quoted code":     {200, `{"errcode":"40164"}`, Denial{40164, ""}},
		"status 500":      {500, `{"errcode":50004,"errmsg":"frozen"}`, Denial{50004, "frozen"}},
		"status 412":      {412, `{"errcode":41002,"errmsg":null}`, Denial{41002, ""}},
		"secret, plain":   {200, `{"errcode":40125,"errmsg":"bad MarkedSecret/with+odd&signs%\"0123456789!"}`, Denial{40125, "bad ***!"}},
		"secret, URL":     {200, `{"errcode":40125,"errmsg":"bad ` + url.QueryEscape(fetchtest.Secret) + `!"}`, Denial{40125, "bad ***!"}},
		"control bytes":   {200, `{"errcode":40125,"errmsg":"bad\r\n\u001b[31m level=ERROR"}`, Denial{40125, "bad [31m level=ERROR"}},
		"long":            {200, `{"errcode":40125,"errmsg":"` + strings.Repeat("字", 1000) + `"}`, Denial{40125, strings.Repeat("字", 512)}},
		"with a token":    {200, `{"errcode":40125,"access_token":"` + fetchtest.Token + `","expires_in":7200}`, Denial{40125, ""}},
		"fraction":        {200, `{"errcode":1.5,"errmsg":"x"}`, Denial{OtherCode, "1.5: x"}},
		"huge":            {200, `{"errcode":1e12}`, Denial{OtherCode, "1e12"}},
		"negative":        {200, `{"errcode":-1001}`, Denial{-1001, ""}},
		"a word":          {400, `{"errcode":"invalidClient","errmsg":"no"}`, Denial{OtherCode, "invalidClient: no"}},
		"a space":         {200, `{"errcode":" "}`, Denial{OtherCode, " "}},
		"separators":      {200, `{"errcode":40125,"errmsg":"a\u2028b\u202ec\u200bd"}`, Denial{40125, "a b c d"}},
		"token in errmsg": {200, `{"errcode":40125,"errmsg":"not ` + fetchtest.Token + `","access_token":"` + fetchtest.Token + `"}`, Denial{40125, "not ***"}},
		"secret, JSON":    {200, `{"errcode":40125,"errmsg":"bad MarkedSecret/with+odd\\u0026signs%\\\"0123456789!"}`, Denial{40125, "bad ***!"}},
		"secret, HTML":    {200, `{"errcode":40125,"errmsg":"bad MarkedSecret/with+odd&amp;signs%&#34;0123456789!"}`, Denial{40125, "bad ***!"}},
		"errmsg a number": {200, `{"errcode":40125,"errmsg":7}`, Denial{40125, ""}},
	} {
		t.Run(name, func(t *testing.T) {
			base, requests := fetchtest.Serve(t, fetchtest.Answer(test.status, test.body))
			_, err := fetch(t.Context(), plain(nil, base, base))
			var denied *Denial
			require.ErrorAs(t, err, &denied)
			assert.Equal(t, test.want, *denied)
			assert.EqualValues(t, 1, requests.Load())
			fetchtest.NoLeak(t, err)
		})
	}
}

// Answers like those of other platforms.
func TestDescribedAnswers(t *testing.T) {
	nested := Answer{Token: "data.access_token", ExpiresIn: "data.expires_in", Code: "data.error_code", Message: "data.description"}
	one := Answer{Token: "token", ExpiresIn: "life", Code: "result", OK: "1", Message: "error.text"}
	word := Answer{Token: "token", ExpiresIn: "life", Code: "status", OK: "success", Message: "message"}
	none := Answer{Token: "accessToken", ExpiresIn: "expireIn"}
	const good = `"token":"` + fetchtest.Token + `","life":"300"`
	for name, test := range map[string]struct {
		answer Answer
		body   string
		want   string // "issued", part of an error, or of a denial
	}{
		"nested":               {nested, `{"data":{"access_token":"` + fetchtest.Token + `","expires_in":300,"error_code":0,"description":""},"message":"success"}`, "issued"},
		"nested denial":        {nested, `{"data":{"error_code":10020,"description":"too many"},"message":"error"}`, "errcode 10020: too many"},
		"nested, quoted code":  {nested, `{"data":{"error_code":"2190008","description":"x"}}`, "errcode 2190008: x"},
		"nested, no data":      {nested, `{"access_token":"` + fetchtest.Token + `"}`, "data.access_token is missing"},
		"nested, data a list":  {nested, `{"data":[{"access_token":"x"}]}`, "data.access_token is missing"},
		"nested, data a text":  {nested, `{"data":"access_token"}`, "data.access_token is missing"},
		"nested, no life":      {nested, `{"data":{"access_token":"` + fetchtest.Token + `"}}`, "data.expires_in is not a whole number"},
		"one":                  {one, `{"result":1,` + good + `}`, "issued"},
		"one, quoted":          {one, `{"result":"1",` + good + `}`, "issued"},
		"one, as 1.0":          {one, `{"result":1.0,` + good + `}`, "issued"},
		"one, missing":         {one, `{` + good + `}`, "issued"},
		"one, null":            {one, `{"result":null,` + good + `}`, "issued"},
		"one, but 0":           {one, `{"result":0,"error":{"text":"no"},` + good + `}`, "errcode -2: 0: no"},
		"one, but empty":       {one, `{"result":"",` + good + `}`, "errcode -2: "},
		"one, but 100200100":   {one, `{"result":100200100,"error":{"text":"bad app"}}`, "errcode 100200100: bad app"},
		"word":                 {word, `{"status":"success",` + good + `}`, "issued"},
		"word, other":          {word, `{"status":"invalidClient","message":"who?"}`, "errcode -2: invalidClient: who?"},
		"word, other case":     {word, `{"status":"Success",` + good + `}`, "errcode -2: Success"},
		"word, but 0":          {word, `{"status":0,` + good + `}`, "errcode -2: 0"},
		"word, but \"0\"":      {word, `{"status":"0",` + good + `}`, "errcode -2: 0"},
		"word, a list":         {word, `{"status":[],` + good + `}`, "status is not a number or a string"},
		"none":                 {none, `{"accessToken":"` + fetchtest.Token + `","expireIn":300}`, "issued"},
		"none, an empty name":  {none, `{"":7,"accessToken":"` + fetchtest.Token + `","expireIn":300}`, "issued"},
		"none, errcode":        {none, `{"errcode":40013}`, "accessToken is missing"},
		"OK 0":                 {Answer{Token: "token", ExpiresIn: "life", Code: "code", OK: "0"}, `{"code":"0",` + good + `}`, "issued"},
		"OK 0, a number":       {Answer{Token: "token", ExpiresIn: "life", Code: "code", OK: "0"}, `{"code":0,` + good + `}`, "issued"},
		"a number as a string": {Answer{Token: "token", ExpiresIn: "life", Code: "code"}, `{"code":"0",` + good + `}`, "issued"},
		"an empty code":        {Answer{Token: "token", ExpiresIn: "life", Code: "code"}, `{"code":"",` + good + `}`, "issued"},
	} {
		t.Run(name, func(t *testing.T) {
			value, lifetime, err := judge(respond(200, ""), []byte(test.body), test.answer, Mask(fetchtest.Secret))
			if test.want == "issued" {
				require.NoError(t, err)
				assert.Equal(t, fetchtest.Token, value)
				assert.Equal(t, 5*time.Minute, lifetime)
				return
			}
			require.ErrorContains(t, err, test.want)
			assert.Empty(t, value)
			fetchtest.NoLeak(t, err)
		})
	}
}

func FuzzDescribedAnswer(f *testing.F) {
	f.Add([]byte(`{"data":{"access_token":"x","expires_in":300,"error_code":0}}`), "data.access_token", "data.expires_in", "data.error_code", "", "data.description")
	f.Add([]byte(`{"result":1,"t":"x","e":"7"}`), "t", "e", "result", "1", "m")
	f.Add([]byte(`{"a":{"":{"b":0}}}`), "a..b", ".", "..", "ok", "")
	f.Fuzz(func(t *testing.T, body []byte, token, expires, code, ok, message string) {
		value, lifetime, err := judge(respond(200, ""), body, Answer{token, expires, code, ok, message}, Mask())
		var denied *Denial
		switch {
		case err == nil:
			require.True(t, value != "" && Printable(value) && len(value) <= maxToken)
			require.True(t, 0 < lifetime && lifetime <= maxLifetime)
		case errors.As(err, &denied):
			require.NotZero(t, denied.Code)
			require.LessOrEqual(t, utf8.RuneCountInString(denied.Message), 512)
			require.False(t, strings.ContainsFunc(denied.Message, invisible))
			fallthrough
		default:
			require.Empty(t, value)
		}
	})
}

func FuzzAnswer(f *testing.F) {
	f.Add([]byte(fetchtest.Good))
	f.Add([]byte("\ufeff" + fetchtest.Good))
	f.Add([]byte(`{"errcode":40013,"errmsg":"invalid appid rid: 6aac005a-01bfdbee-79769285"}`))
	f.Add([]byte(`{"access_token":"x","expires_in":"7200.0","errcode":"0"}`))
	f.Add([]byte(`{"access_token":"a b","expires_in":1e99}`))
	f.Add([]byte("<html>" + fetchtest.Secret + "</html>"))
	f.Add([]byte("null"))
	f.Fuzz(func(t *testing.T, body []byte) {
		judge := func(body []byte) (string, time.Duration, error) {
			return judge(respond(200, ""), body, weChat("access_token"), Mask(fetchtest.Secret))
		}
		value, lifetime, err := judge(body)
		if err == nil {
			again, same, err := judge(fmt.Appendf(nil, `{"access_token":%q,"expires_in":%d}`, value, lifetime/time.Second))
			require.NoError(t, err)
			require.Equal(t, value, again)
			require.Equal(t, lifetime, same)
			return
		}
		require.Empty(t, value)
		require.NotContains(t, err.Error(), fetchtest.Secret)
		var denied *Denial
		if errors.As(err, &denied) {
			require.NotZero(t, denied.Code)
			require.LessOrEqual(t, utf8.RuneCountInString(denied.Message), 512)
		} else {
			require.NotContains(t, err.Error(), fetchtest.Token)
		}
	})
}
