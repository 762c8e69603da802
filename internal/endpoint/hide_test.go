package endpoint

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken/internal/fetchtest"
)

// Errors of transports that print the URL, or what the platform sent.
func TestFetchHidesTransportErrors(t *testing.T) {
	for name, make := range map[string]func(*http.Request) error{
		"url.Error": func(r *http.Request) error {
			return &url.Error{Op: "Get", URL: r.URL.String(), Err: syscall.ECONNRESET}
		},
		"wrapped": func(r *http.Request) error {
			return fmt.Errorf("x: %w", &url.Error{Op: "Get", URL: r.URL.String(), Err: syscall.ECONNRESET})
		},
		"text": func(r *http.Request) error { return fmt.Errorf("failed: GET %s", r.URL) },
		"nested": func(r *http.Request) error {
			return &url.Error{Err: fmt.Errorf("GET %v: %w", r.URL.Query(), syscall.ECONNRESET)}
		},
		"token": func(r *http.Request) error { return fmt.Errorf("malformed HTTP response %q", fetchtest.Good) },
		"no cause": func(r *http.Request) error {
			return fmt.Errorf("%w", &url.Error{Op: "Get", URL: r.URL.Host, Err: errors.New("")})
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := fetch(t.Context(), plain(roundTripper(func(r *http.Request) (*http.Response, error) {
				return nil, make(r)
			})))
			require.Error(t, err)
			assert.Equal(t, "unknown", outcome(err), err)
			fetchtest.NoLeak(t, err)
			if name == "url.Error" || name == "wrapped" {
				assert.ErrorIs(t, err, syscall.ECONNRESET)
			}
		})
	}
}

// A proxy sees the URL of a request over http, and may print it.
func TestFetchThroughProxy(t *testing.T) {
	for scheme, test := range map[string]struct {
		asked      int
		want, says string
	}{
		"http":  {1, "unknown", "HTTP 502"},
		"https": {3, "not sent", "Forbidden"},
	} {
		t.Run(scheme, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				asked := 0
				client := dialing(map[string]http.HandlerFunc{"proxy:3128": func(w http.ResponseWriter, r *http.Request) {
					asked++
					if r.Method == http.MethodConnect {
						http.Error(w, "no "+fetchtest.Secret, http.StatusForbidden)
						return
					}
					http.Error(w, "cannot reach "+r.RequestURI, http.StatusBadGateway)
				}})
				client.Proxy = http.ProxyURL(&url.URL{Scheme: "http", Host: "proxy:3128"})
				_, err := fetch(t.Context(), plain(client, scheme+"://wx.example"))
				assert.Equal(t, test.want, outcome(err), err)
				assert.ErrorContains(t, err, test.says)
				assert.Equal(t, test.asked, asked)
				fetchtest.NoLeak(t, err)
			})
		})
	}
}

func TestMask(t *testing.T) {
	mask := Mask("", "se", fetchtest.Secret, "secret+2")
	for text, want := range map[string]string{
		"":                                  "",
		"harmless":                          "harmless",
		"1 " + fetchtest.Secret + " 2":      "1 *** 2",
		url.QueryEscape(fetchtest.Secret):   "***",
		url.PathEscape(fetchtest.Secret):    "***",
		fmt.Sprintf("%q", fetchtest.Secret): `"***"`,
		`"MarkedSecret/with+odd\u0026signs%\"0123456789"`:       `"***"`,
		"MarkedSecret/with+odd&amp;signs%&#34;0123456789":       "***",
		"secret+2 secret%2B2 secret se":                         "*** *** ***cret ***",
		"MarkedSecret/with+odd&signs%\"0123456789" + "secret+2": "******",
	} {
		assert.Equal(t, want, mask(text))
	}
	assert.Equal(t, "as it is", Mask()("as it is"))
}

func TestHideUnknown(t *testing.T) {
	mask := Mask("known")
	cause := errors.New("permission denied")
	wrapped := fmt.Errorf("vault: %w", cause)
	assert.Same(t, wrapped, HideUnknown(wrapped, mask), "its cause is lost")
	assert.EqualError(t, HideUnknown(errors.New("not known, not 0123456789abcdef"), mask), "not ***, not ***")
	assert.EqualError(t, HideUnknown(&url.Error{Op: "Get", URL: "http://vault/?token=0123", Err: cause}, mask), "permission denied")
}
