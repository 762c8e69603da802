package wxtoken_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"

	"github.com/wxtoken/wxtoken"
)

// fetchedTwice says what an Example's fetcher does, and what it does with a wrong
// secret.
func fetchedTwice(newFetcher func(secret string) *wxtoken.HTTPFetcher) {
	ctx := context.Background()
	first, err := wxtoken.New(newFetcher("s3cret"), nil).Token(ctx)
	again, _ := newFetcher("s3cret").Fetch(ctx)
	fmt.Println(first.Valid(), err, "the same again:", first.Value == again.Value)
	_, err = newFetcher("wrong").Fetch(ctx)
	fmt.Println(err)
}

// Douyin's client_token. Only the newest two are valid, so it is not Repeatable:
// if several processes fetched for themselves, they would invalidate each other's.
func ExampleNewEndpointFetcher_douyin() {
	platform := fakeDouyin()
	defer platform.Close()

	newFetcher := func(secret string) *wxtoken.HTTPFetcher {
		return wxtoken.NewEndpointFetcher("douyin:app1", wxtoken.Endpoint{
			URL: "https://open.douyin.com/oauth/client_token/", Method: "POST",
			Params: map[string]string{"grant_type": "client_credential", "client_key": "app1", "client_secret": secret},
			Token:  "data.access_token", ExpiresIn: "data.expires_in", Code: "data.error_code", Message: "data.description",
		}, wxtoken.WithBaseURL(platform.URL)) // only here: the platform is a fake
	}
	fetchedTwice(newFetcher)
	// Output:
	// true <nil> the same again: false
	// wxtoken: platform answered errcode 10013: client_key 或者 client_secret 报错
}

// Douyin's stable_client_token is the same until it expires.
func ExampleNewEndpointFetcher_douyinStable() {
	platform := fakeDouyin()
	defer platform.Close()

	newFetcher := func(secret string) *wxtoken.HTTPFetcher {
		return wxtoken.NewEndpointFetcher("douyin-stable:app1", wxtoken.Endpoint{
			URL: "https://open.douyin.com/oauth/stable_client_token/", Method: "POST", Repeatable: true,
			Params: map[string]string{"grant_type": "client_credential", "client_key": "app1", "client_secret": secret},
			Token:  "data.access_token", ExpiresIn: "data.expires_in", Code: "data.error_code", Message: "data.description",
		}, wxtoken.WithBaseURL(platform.URL))
	}
	fetchedTwice(newFetcher)
	// Output:
	// true <nil> the same again: true
	// wxtoken: platform answered errcode 10013: client_key 或者 client_secret 报错
}

// Feishu's tenant_access_token is the same while 30 minutes are left. Then there
// is a new one, and both are valid.
func ExampleNewEndpointFetcher_feishu() {
	platform := fakeFeishu()
	defer platform.Close()

	newFetcher := func(secret string) *wxtoken.HTTPFetcher {
		return wxtoken.NewEndpointFetcher("feishu:app1", wxtoken.Endpoint{
			URL: "https://open.feishu.cn/open-apis/auth/v3/tenant_access_token/internal", Method: "POST", Repeatable: true,
			Params: map[string]string{"app_id": "app1", "app_secret": secret},
			Token:  "tenant_access_token", ExpiresIn: "expire", Code: "code", Message: "msg",
		}, wxtoken.WithBaseURL(platform.URL))
	}
	fetchedTwice(newFetcher)
	// Output:
	// true <nil> the same again: true
	// wxtoken: platform answered errcode 10014: app secret invalid
}

// DingTalk's new endpoint. Its codes are words, so APIError.Code is -2 and the
// word begins the message.
func ExampleNewEndpointFetcher_dingTalk() {
	platform := fakeDingTalk()
	defer platform.Close()

	newFetcher := func(secret string) *wxtoken.HTTPFetcher {
		return wxtoken.NewEndpointFetcher("dingtalk:app1", wxtoken.Endpoint{
			URL: "https://api.dingtalk.com/v1.0/oauth2/accessToken", Method: "POST", Repeatable: true,
			Params: map[string]string{"appKey": "app1", "appSecret": secret},
			Token:  "accessToken", ExpiresIn: "expireIn", Code: "code", Message: "message",
		}, wxtoken.WithBaseURL(platform.URL))
	}
	fetchedTwice(newFetcher)
	// Output:
	// true <nil> the same again: true
	// wxtoken: platform answered errcode -2: invalidClientIdOrSecret: 无效的clientId或者clientSecret
}

// DingTalk's old endpoint takes a GET, as WeChat's does.
func ExampleNewEndpointFetcher_dingTalkOld() {
	platform := fakeDingTalk()
	defer platform.Close()

	newFetcher := func(secret string) *wxtoken.HTTPFetcher {
		return wxtoken.NewEndpointFetcher("dingtalk-old:app1", wxtoken.Endpoint{
			URL: "https://oapi.dingtalk.com/gettoken", Repeatable: true,
			Params: map[string]string{"appkey": "app1", "appsecret": secret},
			Token:  "access_token", ExpiresIn: "expires_in", Code: "errcode", Message: "errmsg",
		}, wxtoken.WithBaseURL(platform.URL))
	}
	fetchedTwice(newFetcher)
	// Output:
	// true <nil> the same again: true
	// wxtoken: platform answered errcode 40089: 不合法的corpid或corpsecret
}

// Kuaishou takes a form and says 1 for success. Whether a second fetch ends the
// first token is not documented, so it is not Repeatable.
func ExampleNewEndpointFetcher_kuaishou() {
	platform := fakeKuaishou()
	defer platform.Close()

	newFetcher := func(secret string) *wxtoken.HTTPFetcher {
		return wxtoken.NewEndpointFetcher("kuaishou:app1", wxtoken.Endpoint{
			URL: "https://open.kuaishou.com/oauth2/access_token", Method: "POST", Form: true,
			Params: map[string]string{"grant_type": "client_credentials", "app_id": "app1", "app_secret": secret},
			Token:  "access_token", ExpiresIn: "expires_in", Code: "result", OK: "1", Message: "error_msg",
		}, wxtoken.WithBaseURL(platform.URL))
	}
	fetchedTwice(newFetcher)
	// Output:
	// true <nil> the same again: false
	// wxtoken: platform answered errcode 100200101: invalid client
}

// Small fakes of other platforms' token endpoints, which answer as their
// documentation says, to the app "app1" with the secret "s3cret".

// A fakeEndpoint issues tokens that are numbered from 1.
type fakeEndpoint struct {
	mu     sync.Mutex
	issued int
}

func (f *fakeEndpoint) next() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.issued++
	return fmt.Sprint("token-", f.issued)
}

func jsonParams(r *http.Request) map[string]string {
	params := map[string]string{}
	_ = json.NewDecoder(r.Body).Decode(&params)
	return params
}

// fakeDouyin has client_token, whose third answer ends the first token at once,
// and stable_client_token, which repeats.
func fakeDouyin() *httptest.Server {
	var f fakeEndpoint
	deny := func(w http.ResponseWriter, code int, text string) {
		fmt.Fprintf(w, `{"data":{"captcha":"","desc_url":"","description":%q,"error_code":%d},"message":"error"}`, text, code)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /oauth/{kind}/{$}", func(w http.ResponseWriter, r *http.Request) {
		params := jsonParams(r)
		token := "the-stable-token"
		switch {
		case r.Header.Get("Content-Type") != "application/json" || params["grant_type"] != "client_credential":
			deny(w, 10002, "参数错误")
			return
		case params["client_key"] != "app1":
			deny(w, 10003, "client_key 不存在")
			return
		case params["client_secret"] != "s3cret":
			deny(w, 10013, "client_key 或者 client_secret 报错")
			return
		case r.PathValue("kind") == "client_token":
			token = f.next()
		}
		fmt.Fprintf(w, `{"data":{"access_token":%q,"description":"","error_code":0,"expires_in":7200},"message":"success"}`, token)
	})
	return httptest.NewServer(mux)
}

// fakeFeishu repeats its tenant_access_token while 30 minutes are left.
func fakeFeishu() *httptest.Server {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /open-apis/auth/v3/tenant_access_token/internal", func(w http.ResponseWriter, r *http.Request) {
		switch params := jsonParams(r); {
		case params["app_id"] != "app1":
			fmt.Fprint(w, `{"code":10003,"msg":"invalid param"}`)
		case params["app_secret"] != "s3cret":
			fmt.Fprint(w, `{"code":10014,"msg":"app secret invalid"}`)
		default:
			fmt.Fprint(w, `{"code":0,"msg":"ok","tenant_access_token":"t-the-token","expire":7140}`)
		}
	})
	return httptest.NewServer(mux)
}

// fakeDingTalk has the old endpoint and the new one. Both repeat.
func fakeDingTalk() *httptest.Server {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /gettoken", func(w http.ResponseWriter, r *http.Request) {
		if r.FormValue("appkey") != "app1" || r.FormValue("appsecret") != "s3cret" {
			fmt.Fprint(w, `{"errcode":40089,"errmsg":"不合法的corpid或corpsecret"}`)
			return
		}
		fmt.Fprint(w, `{"errcode":0,"access_token":"the-token","errmsg":"ok","expires_in":7200}`)
	})
	mux.HandleFunc("POST /v1.0/oauth2/accessToken", func(w http.ResponseWriter, r *http.Request) {
		if params := jsonParams(r); params["appKey"] != "app1" || params["appSecret"] != "s3cret" {
			w.WriteHeader(http.StatusBadRequest)
			fmt.Fprint(w, `{"requestid":"6AC5","code":"invalidClientIdOrSecret","message":"无效的clientId或者clientSecret"}`)
			return
		}
		fmt.Fprint(w, `{"accessToken":"the-token","expireIn":7200}`)
	})
	return httptest.NewServer(mux)
}

// fakeKuaishou takes a form, and says 1 for success.
func fakeKuaishou() *httptest.Server {
	var f fakeEndpoint
	mux := http.NewServeMux()
	mux.HandleFunc("POST /oauth2/access_token", func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.PostFormValue("grant_type") != "client_credentials":
			fmt.Fprint(w, `{"result":100200104,"error":"unsupported_grant_type","error_msg":"unsupported grant_type"}`)
		case r.PostFormValue("app_id") != "app1" || r.PostFormValue("app_secret") != "s3cret":
			fmt.Fprint(w, `{"result":100200101,"error":"invalid_client","error_msg":"invalid client"}`)
		default:
			fmt.Fprintf(w, `{"result":1,"access_token":%q,"expires_in":172800,"token_type":"bearer"}`, f.next())
		}
	})
	return httptest.NewServer(mux)
}
