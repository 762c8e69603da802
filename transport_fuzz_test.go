package wxtoken_test

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken"
)

// Whatever the query: the server reads the token that Invalidate is told of,
// and every parameter that is no access_token stays as it is, in its place.
func FuzzTransportQuery(f *testing.F) {
	for _, seed := range []string{
		"", "a=1", "&", "access_token", "access_token=", "access_token=x&access_token=y", "access_token=&access_token=y",
		"access%5ftoken=x", "a;access_token=1", "%zz=1&access_token=%zz", "access_token==&&a=+%20", "?access_token=1#",
		"suite_access_token=1", "a=1&provider%5Faccess_token=&access_token=x", "my_suite_access_token=1",
	} {
		f.Add(seed, "token", true)
		f.Add(seed, "a+b&c=%", false)
	}
	f.Fuzz(func(t *testing.T, query, token string, handedOut bool) {
		own := firstToken(query)
		if token == "" || own == token {
			return
		}
		base, src := &platform{answers: []string{rejection}}, &fuzzSource{token: token}
		if handedOut {
			src.before = own
		}
		req := get(t, apiURL)
		req.URL.RawQuery = query
		_, err := (&wxtoken.Transport{Source: src, Base: base}).RoundTrip(req)
		require.NoError(t, err)
		require.Equal(t, query, req.URL.RawQuery)

		queries := base.queries()
		if other := hasOtherCredential(query); other || own != "" && !handedOut {
			require.Equal(t, []string{query}, queries)
			require.Empty(t, src.rejected)
			return
		}
		require.Len(t, queries, 2)
		if own != "" {
			require.Equal(t, query, queries[0])
			require.Equal(t, own, src.rejected)
		} else {
			require.Equal(t, token, firstToken(queries[0]))
			require.Equal(t, token, src.rejected)
		}
		require.Equal(t, token, firstToken(queries[1]))
		require.Equal(t, otherParams(query), otherParams(queries[0]))
		require.Equal(t, otherParams(query), otherParams(queries[1]))
	})
}

// A fuzzSource hands out before until that is rejected, and then token.
type fuzzSource struct{ before, token, rejected string }

func (s *fuzzSource) Token(context.Context) (wxtoken.Token, error) {
	if s.before != "" && s.rejected != s.before {
		return wxtoken.Token{Value: s.before}, nil
	}
	return wxtoken.Token{Value: s.token}, nil
}

func (s *fuzzSource) Invalidate(_ context.Context, rejected string) error {
	s.rejected = rejected
	return nil
}

// name is that of one part of a raw query.
func name(part string) string {
	key, _, _ := strings.Cut(part, "=")
	name, _ := url.QueryUnescape(key)
	return name
}

func hasOtherCredential(query string) bool {
	return slices.ContainsFunc(strings.Split(query, "&"), func(part string) bool {
		switch name(part) {
		case "component_access_token", "suite_access_token", "provider_access_token", "cloudbase_access_token":
			return true
		}
		return false
	})
}

// firstToken returns the first access_token of a raw query that is not empty.
func firstToken(query string) string {
	for part := range strings.SplitSeq(query, "&") {
		if _, value, _ := strings.Cut(part, "="); name(part) == "access_token" && value != "" {
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
		if name(part) != "access_token" && part != "" {
			parts = append(parts, part)
		}
	}
	return strings.Join(parts, "&")
}

// However a server spells a token in a Location, and wherever it puts it: what
// leaves Hosts, decoded as often as anyone may decode it, has no token in it. A
// Location without one stays as it is.
func FuzzTransportLocation(f *testing.F) {
	const token = "Marked-Token_0123456789"
	for where := range uint8(6) {
		f.Add("", "", []byte{0}, where)
		f.Add("a=1&b=", "&c=%zz#", []byte{1, 0, 0, 2, 3, 1}, where)
		f.Add("%", "%41", []byte{2, 3, 2, 3}, where)
	}
	f.Fuzz(func(t *testing.T, before, after string, spelling []byte, where uint8) {
		if strings.ContainsAny(before+after, "\r\n\x00") || len(before+after) > 1000 {
			return
		}
		var spelled strings.Builder
		for i := range len(token) {
			how := byte(0)
			if len(spelling) > 0 {
				how = spelling[i%len(spelling)] % 4
			}
			switch how {
			case 0:
				spelled.WriteByte(token[i])
			case 1:
				fmt.Fprintf(&spelled, "%%%02X", token[i])
			case 2:
				fmt.Fprintf(&spelled, "%%%02x", token[i])
			case 3:
				fmt.Fprintf(&spelled, "%%25%02x", token[i])
			}
		}
		text := before + spelled.String() + after
		location := "https://other.example/" + []string{"?" + text, text, "#" + text, "?u=" + url.QueryEscape(text), "x/" + url.PathEscape(text) + "?y", "?" + before + after}[where%6]
		base := &platform{answers: []string{"{}"}, status: http.StatusFound, header: http.Header{"Location": {location}}}
		resp, err := (&wxtoken.Transport{Source: &rotatingSource{first: token}, Base: base}).RoundTrip(get(t, apiURL))
		require.NoError(t, err)
		got := resp.Header.Get("Location")
		for range 5 {
			require.NotContains(t, got, token)
			got = percent.ReplaceAllStringFunc(got, func(s string) string {
				plain, _ := url.PathUnescape(s)
				return plain
			})
		}
		if where%6 == 5 && !strings.ContainsAny(before+after, "%-_") {
			require.Equal(t, location, resp.Header.Get("Location"))
		}
	})
}

var percent = regexp.MustCompile("%[0-9a-fA-F]{2}")
