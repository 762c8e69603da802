package serve

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken"
	"github.com/wxtoken/wxtoken/cmd/wxtoken/internal/config"
	"github.com/wxtoken/wxtoken/wxtest"
)

const (
	shopSecret = "secret-of-the-shop-0123456789"
	blogSecret = "secret-of-the-blog-0123456789"
	appSecret  = "secret-of-the-apps-0123456789"
)

// believed is the age of a token from which the tests' servers believe its rejection:
// a tenth of the 10 s that a fetch may take. On a busy machine, too, none times out.
const believed = 1100 * time.Millisecond

// Tokens stay too young for that for 3 s, or for 6 s, however busy the machine is.
var (
	unhurried = wxtoken.WithFetchTimeout(30 * time.Second)
	leisurely = wxtoken.WithFetchTimeout(time.Minute)
)

// fakePlatform has the apps wx1 and wx2.
func fakePlatform(t *testing.T) *wxtest.Server {
	t.Helper()
	srv := wxtest.NewServer(wxtest.WithApp("wx1", appSecret), wxtest.WithApp("wx2", appSecret))
	t.Cleanup(srv.Close)
	return srv
}

// testConfig serves wx1 to shop, and wx1 and wx2 to blog.
func testConfig(platform *wxtest.Server) *config.Config {
	return &config.Config{
		Listen: "127.0.0.1:0", Admin: "127.0.0.1:0", Single: true,
		Apps: []config.App{
			{AppID: "wx1", Secret: appSecret, BaseURL: platform.URL},
			{AppID: "wx2", Secret: appSecret, BaseURL: platform.URL, Type: "stable", Tickets: []string{"jsapi"}},
		},
		Clients: []config.Client{
			{Name: "shop", Secret: shopSecret, Apps: []string{"wx1"}},
			{Name: "blog", Secret: blogSecret, Apps: []string{"wx1", "wx2"}, Proxy: []string{"/cgi-bin/*"}},
		},
	}
}

// checked returns a configuration as parsed from its JSON.
func checked(t *testing.T, c *config.Config) *config.Config {
	t.Helper()
	text, err := json.Marshal(c)
	require.NoError(t, err)
	c, err = config.Parse(text, func(string) string { return "" })
	require.NoError(t, err)
	return c
}

// A running server, with its log.
type running struct {
	*Server
	t         *testing.T
	out       *syncBuffer
	client    *http.Client
	url       string
	stop, now context.CancelFunc
	done      chan error
}

func start(t *testing.T, c *config.Config, options ...wxtoken.Option) *running {
	t.Helper()
	out := new(syncBuffer)
	s, err := Open(checked(t, c), slog.New(slog.NewJSONHandler(out, nil)), options...)
	require.NoError(t, err)
	ctx, stop := context.WithCancel(context.Background())
	now, atOnce := context.WithCancel(context.Background())
	r := &running{s, t, out, http.DefaultClient, "http://" + s.Addr(), stop, atOnce, make(chan error, 1)}
	go func() { r.done <- s.Serve(ctx, now) }()
	t.Cleanup(func() {
		stop()
		assert.NoError(t, <-r.done)
		atOnce()
		r.done <- nil // so that done can be read again
		for _, secret := range []string{shopSecret, blogSecret, appSecret} {
			assert.NotContains(t, out.String(), secret)
		}
	})
	return r
}

// A reply of the server.
type reply struct {
	Status      int
	Header      http.Header
	AccessToken string `json:"access_token"`
	ExpiresIn   int    `json:"expires_in"`
	Ticket      string `json:"ticket"`
	Errcode     int
	Errmsg      string
}

func (r *running) do(method, path, secret, body string) reply {
	r.t.Helper()
	req, err := http.NewRequest(method, r.url+path, strings.NewReader(body))
	require.NoError(r.t, err)
	if secret != "" {
		req.Header.Set("Authorization", "Bearer "+secret)
	}
	resp, err := r.client.Do(req)
	require.NoError(r.t, err)
	defer resp.Body.Close()
	a := reply{Status: resp.StatusCode, Header: resp.Header}
	text, err := io.ReadAll(resp.Body)
	require.NoError(r.t, err)
	if strings.HasPrefix(resp.Header.Get("Content-Type"), "application/json") {
		require.NoError(r.t, json.Unmarshal(text, &a), string(text))
	} else {
		a.Errmsg = string(text)
	}
	return a
}

// token requests wx1's token, which must exist.
func (r *running) token() string {
	r.t.Helper()
	a := r.do("GET", "/token?appid=wx1", shopSecret, "")
	require.Equal(r.t, http.StatusOK, a.Status, a.Errmsg)
	return a.AccessToken
}

func (r *running) reject(token string) reply {
	r.t.Helper()
	body, err := json.Marshal(map[string]string{"appid": "wx1", "access_token": token})
	require.NoError(r.t, err)
	return r.do("POST", "/token/reject", shopSecret, string(body))
}

// A syncBuffer is a bytes.Buffer for several goroutines.
type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
