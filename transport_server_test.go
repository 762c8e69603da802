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

func TestTransportRedirects(t *testing.T) {
	var other, own []*http.Request
	foreign := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { other = append(other, r) }))
	defer foreign.Close()
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		own = append(own, r)
		echo := r.URL.Query()
		switch r.URL.Path {
		case "/out": // as a web server does that redirects with the whole request URI
			http.Redirect(w, r, foreign.URL+"/in?"+echo.Encode()+"&next="+url.QueryEscape(r.RequestURI), http.StatusFound)
		case "/within":
			http.Redirect(w, r, "/end?keep=1", http.StatusFound)
		case "/echo":
			http.Redirect(w, r, "/end?"+echo.Encode(), http.StatusFound)
		case "/broken":
			w.Header().Set("Location", "http://%zz/?"+echo.Encode())
			w.WriteHeader(http.StatusFound)
		case "/loop":
			http.Redirect(w, r, r.RequestURI, http.StatusFound)
		}
	}))
	defer api.Close()
	host := strings.TrimPrefix(api.URL, "http://")
	src := &rotatingSource{}
	client := &http.Client{Transport: &wxtoken.Transport{Source: src, Hosts: []string{host}}}
	run := func(pathAndQuery string) error {
		other, own = nil, nil
		resp, err := client.Get(api.URL + pathAndQuery)
		if err == nil {
			_ = resp.Body.Close()
			assert.NotContains(t, resp.Request.URL.String(), "token-1")
		}
		return err
	}

	for _, query := range []string{"", "?access_token=token-mine"} {
		require.NoError(t, run("/out"+query))
		assert.Contains(t, own[0].URL.RawQuery, "token-")
		require.Len(t, other, 1)
		assert.NotContains(t, other[0].RequestURI, "token-")
		assert.NotContains(t, other[0].Header.Get("Referer"), "token-")
	}

	require.NoError(t, run("/within"))
	assert.Equal(t, "keep=1&access_token=token-1", own[1].URL.RawQuery)
	assert.NotContains(t, own[1].Header.Get("Referer"), "token-")
	require.NoError(t, run("/echo"))
	assert.Equal(t, "access_token=token-1", own[1].URL.RawQuery)
	assert.NotContains(t, own[1].Header.Get("Referer"), "token-")
	require.NoError(t, run("/echo?access_token=token-mine"))
	assert.Equal(t, "access_token=token-mine", own[1].URL.RawQuery)

	for _, path := range []string{"/broken", "/loop"} {
		err := run(path)
		require.Error(t, err)
		assert.NotContains(t, err.Error(), "token-")
	}
}

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
			_, _ = io.WriteString(z, refusal)
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
	assert.Equal(t, refusal, string(text), "compressed for the caller: not looked into")

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

// The refused answer is drained, so that its connection serves the replay.
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
			_, _ = io.WriteString(w, refusal)
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

// issuer gets its tokens from the fake platform, by way of nobody's secret.
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
// name, before and after a token dies.
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
