package client

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken"
	"github.com/wxtoken/wxtoken/wxtest"
)

const secret = "secret-of-the-shop-0123456789"

// A tokenServer answers as wxtoken serve does, in process.
type tokenServer struct {
	mu       sync.Mutex
	current  string
	number   int
	left     int // seconds
	asked    int
	reported []string
	believes bool
	down     bool
	problem  string        // sent in place of a token
	delay    time.Duration // of each answer

	slowReport time.Duration
}

func (s *tokenServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	time.Sleep(s.delay)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
	switch {
	case s.down:
		panic(http.ErrAbortHandler)
	case r.Header.Get("Authorization") != "Bearer "+secret:
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = io.WriteString(w, `{"errcode":40125,"errmsg":"the bearer secret is missing or not known to this server"}`)
		return
	case s.problem != "":
		w.Header().Set("Retry-After", "53")
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = io.WriteString(w, s.problem)
		return
	case r.URL.Path == "/token/reject":
		if s.slowReport > 0 {
			s.mu.Unlock()
			time.Sleep(s.slowReport)
			s.mu.Lock()
		}
		var body struct {
			AppID       string `json:"appid"`
			AccessToken string `json:"access_token"`
		}
		_ = json.NewDecoder(r.Body).Decode(&body)
		s.reported = append(s.reported, body.AppID+" "+body.AccessToken)
		if s.believes && body.AccessToken == s.current {
			s.next()
		}
	}
	fmt.Fprintf(w, `{"access_token":%q,"expires_in":%d}`, s.current, s.left)
}

// next replaces the token.
func (s *tokenServer) next() {
	s.number++
	s.current = fmt.Sprintf("token-%d", s.number)
}

// in runs a test in virtual time, with a server that has a token.
func in(t *testing.T, test func(t *testing.T, s *tokenServer, src *Source)) {
	synctest.Test(t, func(t *testing.T) {
		s := &tokenServer{left: 7200, believes: true}
		s.next()
		src := New("http://tokens", "wx1", secret, WithHTTPClient(&http.Client{Transport: wxtest.HandlerClient(s).Transport}))
		test(t, s, src)
		time.Sleep(time.Minute) // until background requests have ended
	})
}

func token(t *testing.T, src *Source) string {
	t.Helper()
	got, err := src.Token(t.Context())
	require.NoError(t, err)
	require.True(t, got.Valid())
	return got.Value
}

func TestTheServerIsAskedTwiceAMinute(t *testing.T) {
	in(t, func(t *testing.T, s *tokenServer, src *Source) {
		for range 6000 { // ten minutes
			token(t, src)
			time.Sleep(100 * time.Millisecond)
		}
		assert.InDelta(t, 20, s.asked, 1)
		got, err := src.Token(t.Context())
		require.NoError(t, err)
		assert.InDelta(t, 7200, time.Until(got.ExpiresAt).Seconds(), 31)
	})
}

func TestCallersShareARequest(t *testing.T) {
	in(t, func(t *testing.T, s *tokenServer, src *Source) {
		s.delay = time.Second
		var all sync.WaitGroup
		for range 100 {
			all.Go(func() { assert.Equal(t, "token-1", token(t, src)) })
		}
		all.Wait()
		assert.Equal(t, 1, s.asked)

		// Within two minutes no caller waits for the next token.
		time.Sleep(time.Minute)
		start := time.Now()
		token(t, src)
		assert.Zero(t, time.Since(start))
		time.Sleep(3 * time.Minute)
		token(t, src)
		assert.Equal(t, time.Second, time.Since(start)-3*time.Minute)

		// A caller whose ctx ends does not affect the others.
		time.Sleep(10 * time.Minute)
		hurried, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		got, err := src.Token(hurried)
		require.NoError(t, err, "there is a usable copy")
		assert.Equal(t, "token-1", got.Value)
	})
}

func TestATokenStaysInUseWhileTheServerIsDown(t *testing.T) {
	in(t, func(t *testing.T, s *tokenServer, src *Source) {
		s.left = 600
		token(t, src)
		s.down = true
		for range 590 {
			assert.Equal(t, "token-1", token(t, src))
			time.Sleep(time.Second)
		}
		assert.Less(t, s.asked, 600)
		time.Sleep(15 * time.Second)
		_, err := src.Token(t.Context())
		require.ErrorContains(t, err, "wxtoken: token server tokens: ")
		assert.NotContains(t, err.Error(), secret)
		s.down, s.left = false, 7200
		time.Sleep(2 * time.Second)
		assert.Equal(t, "token-1", token(t, src))
	})
}

func TestInvalidateReportsAndAdopts(t *testing.T) {
	in(t, func(t *testing.T, s *tokenServer, src *Source) {
		first := token(t, src)
		require.NoError(t, src.Invalidate(t.Context(), first))
		assert.Equal(t, []string{"wx1 token-1"}, s.reported)
		assert.Equal(t, "token-2", token(t, src))
		assert.Equal(t, 2, s.asked, "the answer to the report is the new token")
		require.NoError(t, src.Invalidate(t.Context(), first))
		require.NoError(t, src.Invalidate(t.Context(), ""))
		assert.Equal(t, 2, s.asked, "an old token has no effect")

		s.believes = false
		err := src.Invalidate(t.Context(), "token-2")
		require.ErrorContains(t, err, "does not believe yet")
		assert.NotContains(t, err.Error(), "token-2")
		assert.Equal(t, "token-2", token(t, src))
	})
}

// A request made during a report may return the rejected token.
func TestAReportOutranksAConcurrentRequest(t *testing.T) {
	in(t, func(t *testing.T, s *tokenServer, src *Source) {
		first := token(t, src)
		time.Sleep(40 * time.Second)
		s.slowReport = time.Second
		done := make(chan error)
		go func() { done <- src.Invalidate(t.Context(), first) }()
		time.Sleep(100 * time.Millisecond)
		assert.Equal(t, first, token(t, src)) // and asks in the background
		require.NoError(t, <-done)
		assert.Equal(t, 3, s.asked)
		assert.Equal(t, "token-2", token(t, src))
	})
}

func TestErrorsQuoteTheServer(t *testing.T) {
	in(t, func(t *testing.T, s *tokenServer, src *Source) {
		s.problem = `{"errcode":40164,"errmsg":"invalid ip 192.0.2.1"}`
		_, err := src.Token(t.Context())
		var denied *wxtoken.APIError
		require.ErrorAs(t, err, &denied)
		assert.Equal(t, 40164, denied.Code)
		var cooling *wxtoken.CooldownError
		require.ErrorAs(t, err, &cooling)
		assert.Equal(t, 53*time.Second, time.Until(cooling.Until))
		asked := s.asked
		for range 100 {
			_, err = src.Token(t.Context())
			require.Error(t, err)
		}
		assert.Equal(t, asked, s.asked, "within a second it is not asked again")
	})
	for name, test := range map[string]struct{ server, app, secret, says string }{
		"no secret":       {"http://h", "wx1", "", "appID or secret is empty"},
		"no app":          {"http://h", "", secret, "appID or secret is empty"},
		"no URL":          {"tokens:8443", "wx1", secret, "not of the form https://"},
		"nothing listens": {"http://127.0.0.1:1", "wx1", secret, "connection refused"},
	} {
		t.Run(name, func(t *testing.T) {
			src := New(test.server, test.app, test.secret)
			_, err := src.Token(t.Context())
			require.ErrorContains(t, err, test.says)
			assert.True(t, strings.HasPrefix(err.Error(), "wxtoken: token server"))
			assert.Error(t, src.Invalidate(t.Context(), "x"))
		})
	}
}

func TestAnswersWithoutAToken(t *testing.T) {
	for name, handler := range map[string]http.HandlerFunc{
		"a page":   func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>") },
		"nothing":  func(w http.ResponseWriter, _ *http.Request) {},
		"no token": func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"expires_in":7200}`) },
		"no life":  func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"access_token":"x"}`) },
		"an error": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(500)
			_, _ = io.WriteString(w, `{"access_token":"x","expires_in":1}`)
		},
		"a redirect": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://127.0.0.1:1/stolen", http.StatusFound)
		},
		"a long page": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, `{"x":"`+strings.Repeat("x", 1<<20))
		},
	} {
		t.Run(name, func(t *testing.T) {
			srv := httptest.NewServer(handler)
			defer srv.Close()
			_, err := New(srv.URL, "wx1", secret).Token(t.Context())
			require.ErrorContains(t, err, "no token; is this the address of wxtoken serve?")
			assert.NotContains(t, err.Error(), secret)
		})
	}
}

func TestNothingShowsTheSecret(t *testing.T) {
	src := New("https://user:"+secret+"@tokens.example:8443/", "wx1", secret)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%d"} {
		said := fmt.Sprintf(verb, src)
		assert.NotContains(t, said, secret)
		assert.Contains(t, said, "tokens.example")
	}
}

// A Transport over the Source replaces a rejected token.
func TestTransportReplacesARejectedToken(t *testing.T) {
	in(t, func(t *testing.T, s *tokenServer, src *Source) {
		good := "token-2"
		api := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Query().Get("access_token") != good {
				_, _ = io.WriteString(w, `{"errcode":40001,"errmsg":"invalid credential"}`)
				return
			}
			_, _ = io.WriteString(w, `{"ip_list":[]}`)
		})
		client := &http.Client{Transport: &wxtoken.Transport{Source: src, Base: wxtest.HandlerClient(api).Transport}}
		resp, err := client.Get("https://api.weixin.qq.com/cgi-bin/get_api_domain_ip")
		require.NoError(t, err)
		defer resp.Body.Close()
		text, _ := io.ReadAll(resp.Body)
		assert.Contains(t, string(text), "ip_list")
		assert.Equal(t, []string{"wx1 token-1"}, s.reported)
	})
}

func ExampleNew() {
	tokens := New("https://tokens.example:8443", "wx1", "the client's secret")
	client := &http.Client{Transport: &wxtoken.Transport{Source: tokens}} // adds tokens, replaces rejected ones
	fmt.Println(tokens, client.Timeout)
	// Output: client.Source(tokens.example:8443, wx1) 0s
}
