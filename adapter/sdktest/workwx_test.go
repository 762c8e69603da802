package sdktest

import (
	"io"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/xen0n/go-workwx"

	"github.com/wxtoken/wxtoken"
	"github.com/wxtoken/wxtoken/adapter"
	"github.com/wxtoken/wxtoken/wxtest"
)

const corpID, agentSecret = "ww0123456789abcdef", "the-secret-of-an-agent"

var _ workwx.ITokenProvider = adapter.Workwx(wxtoken.New(wxtoken.NewWeComFetcher("a", "b"), nil))

// workwxApp is an app of a corporation whose SDK has no secret: all of its tokens
// come from the Source.
func workwxApp(w world) *workwx.WorkwxApp {
	w.AddCorp(corpID, agentSecret)
	for path, body := range map[string]string{
		"/cgi-bin/user/get":     `{"errcode":0,"errmsg":"ok","userid":"u","name":"Ying"}`,
		"/cgi-bin/message/send": `{"errcode":0,"errmsg":"ok"}`,
		"/cgi-bin/media/upload": `{"errcode":0,"errmsg":"ok","type":"file","media_id":"m1","created_at":"1380000000"}`,
	} {
		w.Handle(path, http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(rw, body) }))
	}
	below := http.DefaultClient.Transport
	src := wxtoken.New(wxtoken.NewWeComFetcher(corpID, agentSecret, wxtoken.WithHTTPClient(&http.Client{Transport: below})), nil)
	return workwx.New(corpID,
		workwx.WithAccessTokenProvider(adapter.Workwx(src)),
		workwx.WithHTTPClient(&http.Client{Transport: &wxtoken.Transport{Source: src, Base: below}}),
	).WithApp("", 1)
}

func workwxCalls(app *workwx.WorkwxApp) map[string]func() error {
	return map[string]func() error{
		"get": func() error { _, err := app.GetUser("u"); return err },
		"post": func() error {
			return app.SendTextMessage(&workwx.Recipient{UserIDs: []string{"u"}}, "hello", false)
		},
		"upload": func() error {
			media, err := workwx.NewMediaFromBuffer("a.txt", []byte("hello"))
			if err == nil {
				_, err = app.UploadTempFileMedia(media)
			}
			return err
		},
	}
}

func TestWorkwx(t *testing.T) {
	inWorld(t, func(t *testing.T, w world) {
		app := workwxApp(w)
		n := 0
		for name, call := range workwxCalls(app) {
			require.NoError(t, call(), name)
			w.saw(t, 1+n, n)
			age()
			w.Revoke(w.LatestCorp(corpID, agentSecret))
			require.NoError(t, call(), name)
			n++
			w.saw(t, 1+n, n)
		}
	})
}

func TestWorkwxInParallel(t *testing.T) {
	inWorld(t, func(t *testing.T, w world) {
		app := workwxApp(w)
		w.Inject(wxtest.Latency(50 * time.Millisecond))
		calls := workwxCalls(app)
		require.NoError(t, calls["get"]())
		const times, each = 5, 10
		for range times {
			age()
			w.Revoke(w.LatestCorp(corpID, agentSecret))
			var wg sync.WaitGroup
			for name, call := range calls {
				for range each {
					wg.Go(func() { assert.NoError(t, call(), name) })
				}
			}
			wg.Wait()
		}
		w.saw(t, 1+times, times*each*len(calls))
	})
}

func TestWorkwxGetsTheSourcesError(t *testing.T) {
	inWorld(t, func(t *testing.T, w world) {
		app := workwxApp(w)
		w.Inject(wxtest.Denial(60020).On(wxtest.TokenCalls))
		_, err := app.GetUser("u")
		var denied *wxtoken.APIError
		require.ErrorAs(t, err, &denied)
		assert.Equal(t, 60020, denied.Code)
		assert.Contains(t, err.Error(), "trusted IPs")
		assert.NotContains(t, err.Error(), agentSecret)
	})
}
