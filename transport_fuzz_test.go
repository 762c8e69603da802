package wxtoken_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken"
)

// Whatever the server sends reaches the caller byte for byte, and of a whole
// JSON document the errcode found is the one that encoding/json finds.
func FuzzTransportBody(f *testing.F) {
	for _, seed := range []string{
		refusal, "", "{", "{}", "\ufeff" + refusal, `{"a":{"errcode":40001}}`, `{"errcode":40001,"errcode":0}`,
		`{"err\u0063ode":42001}`, `{"errcode":4e4}`, `[1]`, "\xef\xbb{", `{"errcode":40014`, `{"a":"` + strings.Repeat(`\"`, 300) + `","errcode":40001}`,
	} {
		f.Add([]byte(seed), false)
		f.Add([]byte(seed), true)
	}
	f.Fuzz(func(t *testing.T, text []byte, byteByByte bool) {
		var body io.Reader = bytes.NewReader(text)
		if byteByByte {
			body = iotest.OneByteReader(body)
		}
		base := baseFunc(func(*http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(body)}, nil
		})
		src := &rotatingSource{failFrom: 2} // so that the first answer is the one that comes back
		resp, err := (&wxtoken.Transport{Source: src, Base: base}).RoundTrip(get(t, apiURL))
		require.NoError(t, err)
		back, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.True(t, bytes.Equal(text, back), "the body came back changed")

		document := bytes.TrimPrefix(text, []byte("\ufeff"))
		// Of several errcodes, encoding/json gives the last; one who stops early cannot.
		single := bytes.Count(document, []byte("errcode"))+bytes.Count(document, []byte(`\u`)) <= 1
		if single && json.Valid(document) && len(text) <= 64<<10 {
			var fields map[string]json.RawMessage
			_ = json.Unmarshal(document, &fields)
			var code int
			want := json.Unmarshal(fields["errcode"], &code) == nil && wxtoken.IsTokenRejected(code)
			require.Equal(t, want, len(src.rejected) == 1)
		}
	})
}

// Whatever the query: the server reads the token that Invalidate is told of,
// and every parameter that is no access_token stays as it is, in its place.
func FuzzTransportQuery(f *testing.F) {
	for _, seed := range []string{
		"", "a=1", "&", "access_token", "access_token=", "access_token=x&access_token=y", "access_token=&access_token=y",
		"access%5ftoken=x", "a;access_token=1", "%zz=1&access_token=%zz", "access_token==&&a=+%20", "?access_token=1#",
	} {
		f.Add(seed, "token")
		f.Add(seed, "a+b&c=%")
	}
	f.Fuzz(func(t *testing.T, query, token string) {
		if token == "" {
			return
		}
		base := &platform{answers: []string{refusal}}
		src := &fuzzSource{token: token}
		req := get(t, apiURL)
		req.URL.RawQuery = query
		_, err := (&wxtoken.Transport{Source: src, Base: base}).RoundTrip(req)
		require.NoError(t, err)
		require.Equal(t, query, req.URL.RawQuery)
		require.Len(t, base.sent, 2)

		first, second := base.queries()[0], base.queries()[1]
		if own := firstToken(query); own != "" {
			require.Equal(t, query, first)
			require.Equal(t, own, src.rejected)
		} else {
			require.Equal(t, token, firstToken(first))
			require.Equal(t, token, src.rejected)
		}
		require.Equal(t, token, firstToken(second))
		require.Equal(t, otherParams(query), otherParams(first))
		require.Equal(t, otherParams(query), otherParams(second))
	})
}

type fuzzSource struct{ token, rejected string }

func (s *fuzzSource) Token(context.Context) (wxtoken.Token, error) {
	return wxtoken.Token{Value: s.token}, nil
}

func (s *fuzzSource) Invalidate(_ context.Context, rejected string) error {
	s.rejected = rejected
	return nil
}

// isToken reports whether one part of a raw query is an access_token.
func isToken(part string) bool {
	key, _, _ := strings.Cut(part, "=")
	name, err := url.QueryUnescape(key)
	return err == nil && name == "access_token"
}

// firstToken gives the first access_token of a raw query that is not empty.
func firstToken(query string) string {
	for part := range strings.SplitSeq(query, "&") {
		if _, value, _ := strings.Cut(part, "="); isToken(part) && value != "" {
			if plain, err := url.QueryUnescape(value); err == nil {
				return plain
			}
			return value
		}
	}
	return ""
}

func otherParams(query string) string {
	var parts []string
	for part := range strings.SplitSeq(query, "&") {
		if !isToken(part) && part != "" {
			parts = append(parts, part)
		}
	}
	return strings.Join(parts, "&")
}
