package endpoint

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A request with its own body, whose answer has no token.
func TestACallWithoutAToken(t *testing.T) {
	answer, requests := `{"errcode":0,"list":[1]}`, 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests++
		body, _ := io.ReadAll(r.Body)
		assert.Equal(t, `{"count":200}`, string(body))
		assert.Equal(t, "access_token=a", r.URL.RawQuery)
		_, _ = io.WriteString(w, answer)
	}))
	defer server.Close()
	var seen []int
	e := Endpoint{
		Path: "/list", Post: true, Query: "access_token=a", Body: map[string]any{"count": 200}, Hosts: []string{server.URL}, Secrets: []string{"s3cret"},
		Read: func(object map[string]json.RawMessage) error {
			if json.Unmarshal(object["list"], &seen) != nil {
				return errors.New("no list, s3cret")
			}
			return nil
		},
	}
	for _, rt := range []http.RoundTripper{nil, otherTransport{http.DefaultTransport}} {
		e.Client = &http.Client{Transport: rt}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		requests, seen, answer = 0, nil, `{"errcode":0,"list":[1]}`
		_, _, err := e.Fetch(ctx, "")
		require.NoError(t, err)
		assert.Equal(t, []int{1}, seen)

		for text, want := range map[string]int{
			`{"errcode":-1,"errmsg":"s3cret"}`: 3, `{"errcode":61003,"errmsg":"s3cret"}`: 1, `{"list":"x"}`: 1, `[]`: 1, ``: 1,
		} {
			answer, requests = text, 0
			_, _, err = e.Fetch(ctx, "")
			require.Error(t, err, text)
			assert.Equal(t, want, requests, text)
			if text != `{"list":"x"}` {
				assert.NotContains(t, err.Error(), "s3cret")
			}
		}
		e.Once, requests, answer = true, 0, `{"errcode":-1}`
		_, _, err = e.Fetch(ctx, "")
		require.Error(t, err)
		assert.Equal(t, 1, requests, "a request to a busy platform is not repeated")
		e.Once = false
	}
}

// otherTransport is another implementation of RoundTripper.
type otherTransport struct{ http.RoundTripper }
