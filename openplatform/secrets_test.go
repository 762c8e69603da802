package openplatform_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken"
	"github.com/wxtoken/wxtoken/openplatform"
	"github.com/wxtoken/wxtoken/wxtest"
)

// No text that a program could print shows a secret, whatever goes wrong.
func TestNothingShowsASecret(t *testing.T) {
	faults := map[string]wxtest.Fault{
		"none": wxtest.Latency(0), "busy": wxtest.Busy(), "portal": wxtest.CaptivePortal(), "empty": wxtest.EmptyBody(),
		"lost reply": wxtest.LostReply(), "5xx": wxtest.ServerError(502), "truncated": wxtest.Truncated(),
		"40125": wxtest.Denial(40125), "61006": wxtest.Denial(61006), "61023": wxtest.Denial(61023), "40001": wxtest.Denial(40001),
	}
	for name, fault := range faults {
		for _, own := range []bool{false, true} {
			bubble(t, fmt.Sprint(name, " own=", own), func(t *testing.T) {
				w := newWorld(t, wxtest.WithThirdParty(wxtest.ThirdParty{RotateRefreshTokens: true}))
				var out, logs bytes.Buffer
				see := func(values ...any) {
					for _, v := range values {
						fmt.Fprintf(&out, "%v %+v %#v %s %q %x\n", v, v, v, v, v, v)
						if b, err := json.Marshal(v); err == nil {
							out.Write(b)
						}
						if err, ok := v.(error); ok {
							for ; err != nil; err = errors.Unwrap(err) {
								fmt.Fprintf(&out, "%#v\n", err)
							}
						}
					}
				}
				log := slog.New(slog.NewTextHandler(&logs, &slog.HandlerOptions{Level: slog.LevelDebug}))
				opts := []openplatform.Option{openplatform.WithSourceOptions(wxtoken.WithLogger(log))}
				rows := &table{}
				if own {
					opts = append(opts, openplatform.WithRefreshTokens(rows))
				}
				p := w.ready(opts...)
				w.authorize("wx1")
				hidden := []string{secret, msgToken, aesKey, w.RefreshToken(compID, "wx1")}
				ticket := w.IssueTicket(compID)
				code := w.IssueCode(compID, "wx2")
				hidden = append(hidden, ticket, code)
				lift := w.Inject(fault)
				see(p.SetTicket(t.Context(), ticket), p, p.Source(), opts)
				_, err := p.Authorize(t.Context(), code)
				see(err)
				for range 3 {
					_, err := p.Authorizer("wx1").Token(t.Context())
					see(err, p.Authorizer("wx1"))
					_, err = w.PushAuthorized(compID, "wx3", hook)
					see(err)
					rows.set(errTable)
					time.Sleep(20 * time.Second)
				}
				lift()
				see(p.SetTicket(t.Context(), "bad "+ticket))
				_, err = p.Authorizer("wx1").Token(t.Context())
				see(err)
				hidden = append(hidden, w.LatestComponent(compID), w.LatestAuthorizer(compID, "wx1"), w.RefreshToken(compID, "wx1"), w.RefreshToken(compID, "wx2"))
				synctest.Wait()
				out.Write(logs.Bytes())
				for _, h := range hidden {
					for _, form := range []string{h, fmt.Sprintf("%x", h)} {
						if i := strings.Index(out.String(), form); h != "" && i >= 0 {
							t.Errorf("a secret shows: %.300s", out.String()[max(0, i-100):])
						}
					}
				}
				assert.True(t, strings.Contains(out.String(), "openplatform.Platform("+compID+")"))
			})
		}
	}
}

// An echoTransport answers with everything it was sent, as an errcode or as a page.
type echoTransport struct {
	*wxtest.Platform
	path string
	page bool
}

func (e *echoTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Path != e.path {
		return e.Transport().RoundTrip(req)
	}
	sent, err := io.ReadAll(req.Body)
	if err != nil {
		return nil, err
	}
	text := req.URL.String() + " " + strings.NewReplacer(`"`, "'", "@@@", " @@@ ").Replace(string(sent)) + " " + strings.ReplaceAll(string(sent), `"`, "'")
	rec := httptest.NewRecorder()
	if e.page {
		rec.WriteHeader(http.StatusBadGateway)
		_, _ = io.WriteString(rec, text)
	} else {
		_, _ = io.WriteString(rec, `{"errcode":40097,"errmsg":"`+text+`"}`)
	}
	return rec.Result(), nil
}

func TestPlatformEchoesSecrets(t *testing.T) {
	for _, page := range []bool{false, true} {
		for _, path := range []string{wxtest.StartPushPath, wxtest.ComponentPath, wxtest.QueryAuthPath, wxtest.AuthorizerPath, wxtest.AuthorizerListPath} {
			bubble(t, fmt.Sprint(path, " page=", page), func(t *testing.T) {
				w := newWorld(t)
				ok := w.ready()
				w.authorize("wx1")
				component := token(t, ok.Source())
				e := &echoTransport{w.Platform, path, page}
				p := w.process(openplatform.WithFetcherOptions(wxtoken.WithHTTPClient(&http.Client{Transport: e})))
				code := w.IssueCode(compID, "wx1")
				_, err := p.Authorize(t.Context(), code)
				errs := []error{err}
				_, err = p.Authorizer("wx1").Token(t.Context())
				errs = append(errs, err)
				_, err = p.Authorizer("wx2").Token(t.Context())
				errs = append(errs, err)
				w.cache = wxtoken.NewMemoryCache()
				p = w.process(openplatform.WithFetcherOptions(wxtoken.WithHTTPClient(&http.Client{Transport: e})))
				_, err = p.Source().Token(t.Context())
				errs = append(errs, err)
				ticket := w.IssueTicket(compID)
				require.NoError(t, p.SetTicket(t.Context(), ticket))
				_, err = p.Source().Token(t.Context())
				errs = append(errs, err)
				said := fmt.Sprint(errs)
				assert.True(t, strings.Contains(said, "40097") || page && strings.Contains(said, "502"), "%s", said)
				for _, h := range []string{secret, component, ticket, code, w.RefreshToken(compID, "wx1")} {
					assert.False(t, strings.Contains(said, h), "%.600s", said)
				}
			})
		}
	}
}
