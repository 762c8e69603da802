// Package fetchtest is shared by the tests of the fetchers: servers, and a secret and
// a token that no error may show.
package fetchtest

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
)

// Marked values, and the answer that issues the token for two hours.
const (
	Secret = "MarkedSecret/with+odd&signs%\"0123456789"
	Token  = "MarkedToken_0123456789-abcdefghijklmnopqrstuvwxyz"
	Good   = `{"access_token":"` + Token + `","expires_in":7200}`
)

// NoLeak searches every printed form of err, and of all errors that it wraps.
func NoLeak(t *testing.T, err error) {
	t.Helper()
	if err == nil {
		return
	}
	text := fmt.Sprintf("%v\n%+v\n%#v\n%q", err, err, err, err)
	for _, marked := range []string{Secret, url.QueryEscape(Secret), url.PathEscape(Secret), "MarkedSecret", Token} {
		assert.NotContains(t, text, marked)
	}
	switch e := err.(type) {
	case interface{ Unwrap() error }:
		NoLeak(t, e.Unwrap())
	case interface{ Unwrap() []error }:
		for _, inner := range e.Unwrap() {
			NoLeak(t, inner)
		}
	}
}

// Serve starts a server that counts its requests.
func Serve(t *testing.T, h http.HandlerFunc) (url string, requests *atomic.Int32) {
	t.Helper()
	requests = new(atomic.Int32)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		h(w, r)
	}))
	t.Cleanup(srv.Close)
	return srv.URL, requests
}

// Answer returns a handler that answers every request the same way.
func Answer(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}
