package wxtoken_test

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken"
)

// A stalling is a body that comes in parts, each after a pause. It ends after the
// last one, if that is not "...".
type stalling struct {
	*io.PipeReader
	closed chan struct{}
}

func stall(pause time.Duration, parts ...string) *stalling {
	r, w := io.Pipe()
	s := &stalling{r, make(chan struct{})}
	go func() {
		for i, part := range parts {
			if part == "..." {
				return
			}
			if i > 0 {
				select {
				case <-time.After(pause):
				case <-s.closed:
				}
			}
			_, _ = io.WriteString(w, part)
		}
		_ = w.Close()
	}()
	return s
}

func (s *stalling) Close() error { close(s.closed); return s.PipeReader.Close() }

// A body that stalls holds up RoundTrip for at most a second, and one more if it
// is a rejection. Of any other body the caller gets all, when it comes.
func TestTransportStalls(t *testing.T) {
	const begun = `{"errcode":40001,"errmsg":"inv`
	long := strings.Repeat("x", 5000)
	for name, tc := range map[string]struct {
		pause    time.Duration
		parts    []string
		returned time.Duration // RoundTrip; the body is read right after
		read     time.Duration // since the request
		sent     int
		want     string // else the parts
	}{
		"rejection":                   {time.Hour, []string{begun, "..."}, time.Second, time.Second, 2, `{"second":1}`},
		"rejection, in two parts":     {900 * time.Millisecond, []string{`{"errcode":40001,"e`, `rrmsg":"inv`, "..."}, time.Second, time.Second, 2, `{"second":1}`},
		"slow rejection":              {900 * time.Millisecond, []string{`{"errcode":`, `40001,`, `"e":"", `, `"f":""}`}, 1900 * time.Millisecond, 1900 * time.Millisecond, 2, `{"second":1}`},
		"rejection that comes late":   {3 * time.Second, []string{"", begun + `"}`}, time.Second, 3 * time.Second, 1, ""},
		"before the errcode":          {time.Minute, []string{`{"errc`, `ode":40001}`}, time.Second, time.Minute, 1, ""},
		"within the errcode":          {time.Minute, []string{`{"errcode":4000`, `1}`}, time.Second, time.Minute, 1, ""},
		"long poll":                   {25 * time.Second, []string{"", `{"errcode":0}`}, time.Second, 25 * time.Second, 1, ""},
		"long poll, large":            {25 * time.Second, []string{"{", long, long, "}"}, time.Second, 75 * time.Second, 1, ""},
		"drop by drop":                {400 * time.Millisecond, []string{`{`, `"`, `a`, `"`, `:`, `1`, `}`}, time.Second, 2400 * time.Millisecond, 1, ""},
		"after another errcode":       {time.Minute, []string{`{"errcode":45009,"errmsg":"`, `"}`}, 0, time.Minute, 1, ""},
		"after what is not an object": {time.Minute, []string{"<", "html>"}, 0, time.Minute, 1, ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				first, sent := stall(tc.pause, tc.parts...), 0
				base := baseFunc(func(req *http.Request) (*http.Response, error) {
					if sent++; sent == 2 {
						return &http.Response{StatusCode: 200, Body: io.NopCloser(strings.NewReader(`{"second":1}`))}, nil
					}
					return &http.Response{StatusCode: 200, Body: first}, nil
				})
				start := time.Now()
				resp, err := (&wxtoken.Transport{Source: &rotatingSource{}, Base: base}).RoundTrip(get(t, apiURL))
				require.NoError(t, err)
				assert.Equal(t, tc.returned, time.Since(start))
				want := tc.want
				if want == "" {
					want = strings.Join(tc.parts, "")
				}
				assert.Equal(t, want, readAll(t, resp))
				assert.Equal(t, tc.read, time.Since(start))
				assert.Equal(t, tc.sent, sent)
				<-first.closed
			})
		})
	}
}

// A rejection that is the caller's ends where it has stalled.
func TestTransportStalledRejection(t *testing.T) {
	const begun = `{"errcode":42001,"errmsg":"access_token exp`
	for name, tc := range map[string]struct {
		src *rotatingSource
		url string
		n   int // the rejections that stall
	}{
		"no token to replace it":  {&rotatingSource{failFrom: 2}, apiURL, 1},
		"not one of the Source's": {&rotatingSource{}, apiURL + "?access_token=stranger", 1},
		"the second":              {&rotatingSource{}, apiURL, 2},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var bodies []*stalling
				base := baseFunc(func(req *http.Request) (*http.Response, error) {
					bodies = append(bodies, stall(time.Hour, begun, "..."))
					header := http.Header{"Content-Length": {"100"}}
					return &http.Response{StatusCode: 200, Header: header, ContentLength: 100, Body: bodies[len(bodies)-1]}, nil
				})
				start := time.Now()
				resp, err := (&wxtoken.Transport{Source: tc.src, Base: base}).RoundTrip(get(t, tc.url))
				require.NoError(t, err)
				text, err := io.ReadAll(resp.Body)
				require.NoError(t, err)
				assert.Equal(t, begun, string(text))
				assert.EqualValues(t, -1, resp.ContentLength)
				assert.Empty(t, resp.Header.Get("Content-Length"))
				assert.Equal(t, time.Duration(tc.n)*time.Second, time.Since(start))
				assert.Len(t, bodies, tc.n)
				for _, body := range bodies {
					<-body.closed
				}
			})
		})
	}
}

// The same with sockets, where Close must end a Read that is under way.
func TestTransportStalledConnection(t *testing.T) {
	client, url, src := serve(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, `{"errcode":40001,"errmsg":"`)
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, io.MultiReader(strings.NewReader("x")))
	require.NoError(t, err)
	resp, err := client.Do(req)
	require.NoError(t, err)
	assert.Equal(t, `{"errcode":40001,"errmsg":"`, readAll(t, resp))
	assert.NoError(t, ctx.Err())
	assert.Equal(t, []string{"token-1"}, src.rejected)
}

// What a Base's body does in Read happens to the caller, not to the process.
func TestTransportBodyPanics(t *testing.T) {
	base := baseFunc(func(*http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: 200, Body: io.NopCloser(panicking{})}, nil
	})
	assert.PanicsWithValue(t, "no luck", func() {
		_, _ = (&wxtoken.Transport{Source: &rotatingSource{}, Base: base}).RoundTrip(get(t, apiURL))
	})
}

type panicking struct{}

func (panicking) Read([]byte) (int, error) { panic("no luck") }
