//go:build unix

package main

import (
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken/wxtest"
)

var interpreters = flag.Bool("clients", false, "run the clients by php, python3, node and java, and the page in Chromium, which must be there")

// A language is one that has a client in the folder clients.
type language struct {
	program string
	prepare func(t *testing.T, dir string)             // nil: nothing
	args    func(dir, path, body, api string) []string // of a call for wx1
}

var languages = map[string]language{
	"wxtoken.php": {"php", nil, func(dir, path, body, api string) []string {
		if body != "" {
			body = fmt.Sprintf("json_decode('%s', true)", body)
		} else {
			body = "null"
		}
		return []string{"-d", "display_errors=stderr", "-r", fmt.Sprintf("require '%s/wxtoken.php'; echo json_encode(wechat('wx1', '%s', %s, '%s'), JSON_UNESCAPED_UNICODE);", dir, path, body, api)}
	}},
	"wxtoken.py": {"python3", nil, func(dir, path, body, api string) []string {
		if body == "" {
			body = "None"
		}
		return []string{"-c", fmt.Sprintf("import sys, json; sys.path.insert(0, %q); import wxtoken; print(json.dumps(wxtoken.wechat('wx1', %q, %s, %q), ensure_ascii=False))", dir, path, body, api)}
	}},
	"wxtoken.mjs": {"node", nil, func(dir, path, body, api string) []string {
		if body == "" {
			body = "undefined"
		}
		return []string{"--input-type=module", "-e", fmt.Sprintf("import { wechat } from 'file://%s/wxtoken.mjs'; console.log(JSON.stringify(await wechat('wx1', '%s', %s, '%s')))", dir, path, body, api)}
	}},
	"Wxtoken.java": {"java", func(t *testing.T, dir string) {
		main := `public class Main {
	public static void main(String[] a) throws Exception {
		Wxtoken.api = a[2];
		System.out.println(Wxtoken.call("wx1", a[0], a[1].isEmpty() ? null : a[1]));
	}
}`
		require.NoError(t, os.WriteFile(filepath.Join(dir, "Main.java"), []byte(main), 0o600))
		out, err := exec.CommandContext(t.Context(), "javac", "-encoding", "UTF-8", "-d", dir, filepath.Join(dir, "Wxtoken.java"), filepath.Join(dir, "Main.java")).CombinedOutput()
		require.NoError(t, err, string(out))
	}, func(dir, path, body, api string) []string {
		return []string{"-Dfile.encoding=UTF-8", "-Dsun.stdout.encoding=UTF-8", "-cp", dir, "Main", path, body, api}
	}},
}

// Each client gets the token, calls an API, and recovers from a rejected token
// with one report and one retry.
func TestClientsInOtherLanguages(t *testing.T) {
	if !*interpreters {
		t.Skip("make clients runs them")
	}
	files, err := filepath.Glob("clients/*")
	require.NoError(t, err)
	require.Len(t, files, len(languages))
	for name, l := range languages {
		t.Run(name, func(t *testing.T) {
			text, err := os.ReadFile("clients/" + name)
			require.NoError(t, err)
			assert.LessOrEqual(t, strings.Count(string(text), "\n"), 30)
			_, err = exec.LookPath(l.program)
			require.NoError(t, err, "install it: the clients are tested by real interpreters")
			dir := t.TempDir()
			require.NoError(t, os.WriteFile(filepath.Join(dir, name), text, 0o600))
			if l.prepare != nil {
				l.prepare(t, dir)
			}
			platform := fakePlatform(t)
			var reports int
			srv := startServe(t, platform, nil)
			counted := proxyTo(t, srv.url, func(path string) {
				if path == "/token/reject" {
					reports++
				}
			})
			call := func(secret, path, body string) (string, string, error) {
				cmd := exec.CommandContext(t.Context(), l.program, l.args(dir, path, body, platform.URL)...)
				cmd.Env = append(os.Environ(), "TOKENSERVER="+counted, "TOKENSERVER_SECRET="+secret)
				var stdout, stderr strings.Builder
				cmd.Stdout, cmd.Stderr = &stdout, &stderr
				err := cmd.Run()
				return stdout.String(), stderr.String(), err
			}
			out, stderr, err := call(shopSecret, "/cgi-bin/get_api_domain_ip", "")
			require.NoError(t, err, stderr)
			assert.Contains(t, out, "ip_list")
			assert.Zero(t, reports)

			first := platform.Latest("wx1")
			time.Sleep(1100 * time.Millisecond) // the age from which a rejection is believed
			platform.Revoke(first)
			out, stderr, err = call(shopSecret, "/cgi-bin/message/custom/send", `{"touser":"你"}`)
			require.NoError(t, err, stderr)
			assert.Contains(t, out, "你", "the body is resent unchanged")
			assert.Equal(t, 1, reports)
			assert.NotEqual(t, first, platform.Latest("wx1"))
			assert.Equal(t, 2, platform.Stats().Results[wxtest.TokenPath].Total())

			_, stderr, err = call("wrong", "/cgi-bin/get_api_domain_ip", "")
			require.Error(t, err)
			assert.Contains(t, stderr, "token server: ")
			assert.Contains(t, stderr, "bearer secret")
		})
	}
}

// proxyTo forwards requests and reports their paths.
func proxyTo(t *testing.T, to string, seen func(path string)) string {
	p := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen(r.URL.Path)
		reverse(t, to).ServeHTTP(w, r)
	}))
	t.Cleanup(p.Close)
	return p.URL
}

func reverse(t *testing.T, to string) http.Handler {
	u, err := url.Parse(to)
	require.NoError(t, err)
	return &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(u) }}
}
