package wxtoken_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken"
	"github.com/wxtoken/wxtoken/wxtest"
)

// The server sends each byte only when the client has read the one before it.
func TestTransportStreamsDownloads(t *testing.T) {
	for name, text := range map[string]string{
		"binary":                    "\x89PNG slowly",
		"looks like a BOM at first": "\xef\xbb\xbc....",
		"JSON after its errcode":    `{"errcode":0,"list":[1,2,3]}`,
		"JSON after its end":        `{"a":{"b":0}}` + "  \n",
	} {
		t.Run(name, func(t *testing.T) {
			got := make(chan struct{}, len(text))
			ahead := 1
			switch text[0] {
			case '{':
				ahead = 13 // up to the byte that ends the errcode, or to the last brace
			case '\xef':
				ahead = 3
			}
			client, url, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
				for i := range len(text) {
					if i >= ahead {
						<-got
					}
					_, _ = w.Write([]byte{text[i]})
					w.(http.Flusher).Flush()
				}
			})
			resp, err := client.Get(url)
			require.NoError(t, err)
			defer resp.Body.Close()
			one := make([]byte, 1)
			for i := range len(text) {
				_, err := io.ReadFull(resp.Body, one)
				require.NoError(t, err)
				require.Equal(t, text[i], one[0])
				got <- struct{}{}
			}
		})
	}
}

// The second half of the upload is written only when the server has the first.
func TestTransportStreamsUploads(t *testing.T) {
	halfway := make(chan struct{})
	client, url, src := serve(t, func(w http.ResponseWriter, r *http.Request) {
		parts, err := r.MultipartReader()
		if !assert.NoError(t, err) {
			return
		}
		part, err := parts.NextPart()
		if !assert.NoError(t, err) {
			return
		}
		half := make([]byte, 5)
		_, err = io.ReadFull(part, half)
		assert.NoError(t, err)
		close(halfway)
		rest, err := io.ReadAll(part)
		assert.NoError(t, err)
		_, _ = fmt.Fprintf(w, `{"media":%q}`, string(half)+string(rest))
	})
	r, w := io.Pipe()
	form := multipart.NewWriter(w)
	go func() {
		part, _ := form.CreateFormFile("media", "a.jpg")
		_, _ = io.WriteString(part, "first")
		<-halfway
		_, _ = io.WriteString(part, "second")
		_ = w.CloseWithError(form.Close())
	}()
	resp, err := client.Post(url, form.FormDataContentType(), r)
	require.NoError(t, err)
	assert.Equal(t, `{"media":"firstsecond"}`, readAll(t, resp))
	assert.Empty(t, src.rejected)
}

func TestTransportCompressed(t *testing.T) {
	client, url, src := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		z := gzip.NewWriter(w)
		if r.FormValue("access_token") == "token-1" {
			_, _ = io.WriteString(z, rejection)
		} else {
			_, _ = io.WriteString(z, `{"ok":1}`)
		}
		_ = z.Close()
	})
	req := get(t, url)
	req.Header.Set("Accept-Encoding", "gzip")
	resp, err := client.Do(req)
	require.NoError(t, err)
	z, err := gzip.NewReader(strings.NewReader(readAll(t, resp)))
	require.NoError(t, err)
	text, err := io.ReadAll(z)
	require.NoError(t, err)
	assert.Equal(t, rejection, string(text), "compressed for the caller: not looked into")

	resp, err = client.Get(url)
	require.NoError(t, err)
	assert.Equal(t, `{"ok":1}`, readAll(t, resp))
	assert.Equal(t, []string{"token-1"}, src.rejected)
}

func TestTransportKeepsTheResponse(t *testing.T) {
	client, url, src := serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/trailer":
			w.Header().Set("Trailer", "X-Sum")
			_, _ = io.WriteString(w, `{"a":1}`)
			w.Header().Set("X-Sum", "42")
		case "/204":
			w.WriteHeader(http.StatusNoContent)
		case "/upgrade":
			conn, rw, err := w.(http.Hijacker).Hijack()
			if !assert.NoError(t, err) {
				return
			}
			defer conn.Close()
			_, _ = rw.WriteString("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n")
			_ = rw.Flush()
			line, _ := rw.ReadString('\n')
			_, _ = rw.WriteString("echo " + line)
			_ = rw.Flush()
		}
	})

	resp, err := client.Get(url + "/trailer")
	require.NoError(t, err)
	assert.Equal(t, `{"a":1}`, readAll(t, resp))
	assert.Equal(t, "42", resp.Trailer.Get("X-Sum"))

	resp, err = client.Get(url + "/204")
	require.NoError(t, err)
	assert.Empty(t, readAll(t, resp))

	resp, err = client.Head(url)
	require.NoError(t, err)
	assert.Empty(t, readAll(t, resp))

	req := get(t, url+"/upgrade")
	req.Header.Set("Connection", "upgrade")
	req.Header.Set("Upgrade", "x")
	resp, err = client.Do(req)
	require.NoError(t, err)
	_, err = io.WriteString(resp.Body.(io.Writer), "hello\n")
	require.NoError(t, err)
	assert.Equal(t, "echo hello\n", readAll(t, resp))
	assert.Empty(t, src.rejected)
}

// The rejection is read to its end, so that its connection serves the replay.
func TestTransportReusesTheConnection(t *testing.T) {
	var remotes []string
	client, url, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		remotes = append(remotes, r.RemoteAddr)
		_, _ = io.WriteString(w, `{"errcode":40001,"errmsg":"`+strings.Repeat("x", 20<<10)+`"}`)
	})
	resp, err := client.Get(url)
	require.NoError(t, err)
	readAll(t, resp)
	require.Len(t, remotes, 2)
	assert.Equal(t, remotes[0], remotes[1])
}

func TestTransportParallel(t *testing.T) {
	var mu sync.Mutex
	good := "token-1"
	client, url, src := serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		if r.URL.Query().Get("access_token") != good {
			_, _ = io.WriteString(w, rejection)
			return
		}
		_, _ = w.Write(body)
	})
	for round := range 5 {
		mu.Lock()
		good = "token-" + strconv.Itoa(round+1)
		mu.Unlock()
		var wg sync.WaitGroup
		for g := range 8 {
			wg.Go(func() {
				for i := range 5 {
					want := fmt.Sprintf(`{"n":%d}`, g*100+i)
					resp, err := client.Post(url, "application/json", strings.NewReader(want))
					if !assert.NoError(t, err) {
						return
					}
					text, err := io.ReadAll(resp.Body)
					_ = resp.Body.Close()
					assert.NoError(t, err)
					assert.Equal(t, want, string(text))
				}
			})
		}
		wg.Wait()
	}
	assert.Equal(t, 4, src.rotations, "one per change of the token")
}

// issuer has the fake platform issue its tokens, without a secret.
type issuer struct {
	*wxtest.Platform
	mu    sync.Mutex
	token string
}

func (s *issuer) Token(context.Context) (wxtoken.Token, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.token == "" {
		s.token = s.Issue("wx1")
	}
	return wxtoken.Token{Value: s.token}, nil
}

func (s *issuer) Invalidate(_ context.Context, rejected string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.token == rejected {
		s.token = ""
	}
	return nil
}

// The endpoints that applications call, on the fake platform, under its real
// name, before and after a token is revoked.
func TestTransportOnThePlatform(t *testing.T) {
	srv := wxtest.NewServer(wxtest.WithApp("wx1", "secret"))
	defer srv.Close()
	src := &issuer{Platform: srv.Platform}
	client := &http.Client{Transport: &wxtoken.Transport{Source: src, Base: srv.Client().Transport}}
	upload := func() map[string]any {
		var form bytes.Buffer
		w := multipart.NewWriter(&form)
		part, err := w.CreateFormFile("media", "a.jpg")
		require.NoError(t, err)
		_, _ = io.WriteString(part, "\xff\xd8 a picture")
		require.NoError(t, w.Close())
		resp, err := client.Post("https://api.weixin.qq.com/cgi-bin/media/upload?type=image", w.FormDataContentType(), &form)
		require.NoError(t, err)
		var answer map[string]any
		require.NoError(t, json.Unmarshal([]byte(readAll(t, resp)), &answer))
		return answer
	}

	for range 2 {
		media, _ := upload()["media_id"].(string)
		require.NotEmpty(t, media)
		resp, err := client.Get("https://api2.weixin.qq.com/cgi-bin/media/get?media_id=" + url.QueryEscape(media))
		require.NoError(t, err)
		assert.Equal(t, "\xff\xd8 a picture", readAll(t, resp))
		resp, err = client.Get("https://api.weixin.qq.com/cgi-bin/get_api_domain_ip")
		require.NoError(t, err)
		assert.Contains(t, readAll(t, resp), "ip_list")
		srv.Revoke(srv.Latest("wx1"))
	}
	srv.Inject(wxtest.Refusal(42007).On(wxtest.BusinessCalls))
	before := srv.Latest("wx1")
	resp, err := client.Get(apiURL)
	require.NoError(t, err)
	assert.Contains(t, readAll(t, resp), "42007")
	assert.Equal(t, before, srv.Latest("wx1"))
}

// serve runs handler on loopback and returns a client that holds token-1 for it.
func serve(t *testing.T, handler http.HandlerFunc) (client *http.Client, url string, src *rotatingSource) {
	t.Helper()
	srv := httptest.NewServer(handler)
	t.Cleanup(srv.Close)
	src = &rotatingSource{}
	client = &http.Client{Transport: &wxtoken.Transport{Source: src, Hosts: []string{"127.0.0.1"}, Base: srv.Client().Transport}}
	return client, srv.URL, src
}
