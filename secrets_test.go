package wxtoken_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/wxtoken/wxtoken"
	"github.com/wxtoken/wxtoken/wxtest"
)

const markedSecret = "markedsecret0123456789markedsecr"

// A witness sees all that a program could print, and looks for secrets in it.
type witness struct {
	mu     sync.Mutex
	t      *testing.T
	p      *wxtest.Platform
	seen   int
	tokens []string
}

func (w *witness) look(what string, values ...any) {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.tokens = append(w.tokens, w.p.Latest("wx1"))
	for _, v := range values {
		var text bytes.Buffer
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
			fmt.Fprintf(&text, verb+"\n", v)
		}
		if b, err := json.Marshal(v); err == nil {
			text.Write(b)
		}
		slog.New(slog.NewTextHandler(&text, nil)).Info("m", "v", v)
		slog.New(slog.NewJSONHandler(&text, nil)).Info("m", "v", v)
		if err, ok := v.(error); ok {
			for err = errors.Unwrap(err); err != nil; err = errors.Unwrap(err) {
				fmt.Fprintf(&text, "%+v %#v\n", err, err)
			}
		}
		w.search(what, text.String())
	}
}

func (w *witness) search(what, text string) {
	w.t.Helper()
	w.seen += len(text)
	for _, secret := range append([]string{markedSecret, "marked token"}, w.tokens...) {
		if secret == "" {
			continue
		}
		for _, form := range []string{secret, fmt.Sprintf("%x", secret)} {
			assert.NotContains(w.t, text, form, what)
		}
	}
}

func TestNothingShowsTheSecretOrAToken(t *testing.T) {
	faults := map[string]wxtest.Fault{
		"none": wxtest.Latency(0), "busy": wxtest.Busy(), "portal": wxtest.CaptivePortal(), "empty": wxtest.EmptyBody(),
		"lost reply": wxtest.LostReply(), "5xx": wxtest.ServerError(502), "truncated": wxtest.Truncated(),
		"refused": wxtest.Refusal(40125), "whitelist": wxtest.Refusal(40164), "slow": wxtest.Latency(time.Minute),
		"echo":           wxtest.Answer(200, "text/html", "<p>no such page: /cgi-bin/token?secret="+markedSecret+"</p>"),
		"echo in errmsg": wxtest.Answer(200, "application/json", `{"errcode":40013,"errmsg":"bad secret `+markedSecret+`"}`),
		"bad lifetime":   wxtest.Answer(200, "", `{"access_token":"`+strings.Repeat("m", 136)+`","expires_in":-1}`),
		"status":         wxtest.Answer(302, "", markedSecret),
	}
	for name, fault := range faults {
		for _, stable := range []bool{false, true} {
			bubble(t, fmt.Sprint(name, " stable=", stable), func(t *testing.T) {
				p := wxtest.NewPlatform(wxtest.WithApp("wx1", markedSecret))
				w := &witness{t: t, p: p}
				var logs bytes.Buffer
				newFetcher := wxtoken.NewFetcher
				if stable {
					newFetcher = wxtoken.NewStableFetcher
				}
				f := newFetcher("wx1", markedSecret, wxtoken.WithHTTPClient(p.Client()))
				cache := &faultyCache{Cache: wxtoken.NewMemoryCache()}
				src := wxtoken.New(f, cache,
					wxtoken.WithObserver(func(e wxtoken.Event) { w.look("event", e, e.Err) }),
					wxtoken.WithLogger(slog.New(slog.NewTextHandler(&logs, &slog.HandlerOptions{Level: slog.LevelDebug}))))
				ask := func() {
					tok, err := src.Token(t.Context())
					w.look("answer", tok, &tok, []any{tok}, err)
					w.look("source", src, f)
				}
				lift := p.Inject(fault)
				for range 3 {
					ask()
					time.Sleep(20 * time.Second)
				}
				lift()
				ask()
				time.Sleep(time.Minute)
				p.Revoke(p.Latest("wx1"))
				tok, _ := src.Token(t.Context())
				w.look("invalidate", src.Invalidate(t.Context(), tok.Value), src.Invalidate(t.Context(), tok.Value))
				ask()
				w.look("too young", src.Invalidate(t.Context(), p.Latest("wx1")))

				client := &http.Client{Transport: &wxtoken.Transport{Source: src, Base: p.Transport()}}
				resp, err := client.Get("https://api.weixin.qq.com/cgi-bin/get_api_domain_ip")
				w.look("transport", err)
				if err == nil {
					w.look("response", resp.Request.URL.String())
					_ = resp.Body.Close()
				}

				synctest.Wait()
				cache.get = func(context.Context) error { return errDown }
				cache.swap = cache.get
				time.Sleep(3 * time.Hour)
				ask()
				synctest.Wait()
				cache.get = func(context.Context) error { panic(errors.New("marked token " + markedSecret)) }
				time.Sleep(time.Minute)
				ask()

				raw, err := cache.Cache.Get(t.Context(), "wxtoken:"+f.Key())
				assert.NotContains(t, string(raw), markedSecret)
				w.look("key", f.Key(), err)
				synctest.Wait()
				w.search("log", logs.String())
				assert.Greater(t, w.seen, 10_000)
			})
		}
	}
}
