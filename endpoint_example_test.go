package wxtoken_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"

	"github.com/wxtoken/wxtoken"
)

// endpointsOf returns the token endpoints of other platforms, for the app "app1". A
// Repeatable one repeats its token, or leaves the old token valid beside the new one.
func endpointsOf(secret string) map[string]wxtoken.Endpoint {
	return map[string]wxtoken.Endpoint{
		// Only the newest two tokens are valid: if several processes fetched for
		// themselves, they would invalidate each other's.
		"douyin:app1": {
			URL: "https://open.douyin.com/oauth/client_token/", Method: "POST",
			Params: map[string]string{"grant_type": "client_credential", "client_key": "app1", "client_secret": secret},
			Token:  "data.access_token", ExpiresIn: "data.expires_in", Code: "data.error_code", Message: "data.description",
		},
		"douyin-stable:app1": {
			URL: "https://open.douyin.com/oauth/stable_client_token/", Method: "POST", Repeatable: true,
			Params: map[string]string{"grant_type": "client_credential", "client_key": "app1", "client_secret": secret},
			Token:  "data.access_token", ExpiresIn: "data.expires_in", Code: "data.error_code", Message: "data.description",
		},
		// The tenant_access_token is the same while 30 minutes are left. Then there is
		// a new one, and both are valid.
		"feishu:app1": {
			URL: "https://open.feishu.cn/open-apis/auth/v3/tenant_access_token/internal", Method: "POST", Repeatable: true,
			Params: map[string]string{"app_id": "app1", "app_secret": secret},
			Token:  "tenant_access_token", ExpiresIn: "expire", Code: "code", Message: "msg",
		},
		// The codes are words: APIError.Code is -2, and the word begins the message.
		"dingtalk:app1": {
			URL: "https://api.dingtalk.com/v1.0/oauth2/accessToken", Method: "POST", Repeatable: true,
			Params: map[string]string{"appKey": "app1", "appSecret": secret},
			Token:  "accessToken", ExpiresIn: "expireIn", Code: "code", Message: "message",
		},
		// The old endpoint takes a GET, as WeChat's does.
		"dingtalk-old:app1": {
			URL: "https://oapi.dingtalk.com/gettoken", Repeatable: true,
			Params: map[string]string{"appkey": "app1", "appsecret": secret},
			Token:  "access_token", ExpiresIn: "expires_in", Code: "errcode", Message: "errmsg",
		},
		// A form, and 1 for success. Whether a second fetch ends the first token is
		// not documented.
		"kuaishou:app1": {
			URL: "https://open.kuaishou.com/oauth2/access_token", Method: "POST", Form: true,
			Params: map[string]string{"grant_type": "client_credentials", "app_id": "app1", "app_secret": secret},
			Token:  "access_token", ExpiresIn: "expires_in", Code: "result", OK: "1", Message: "error_msg",
		},
	}
}

// Douyin, Feishu, DingTalk and Kuaishou. The platforms are fakes here: without
// WithBaseURL the real ones are asked.
func ExampleNewEndpointFetcher() {
	ctx := context.Background()
	right, wrong := endpointsOf("s3cret"), endpointsOf("wrong")
	for _, key := range []string{"douyin:app1", "douyin-stable:app1", "feishu:app1", "dingtalk:app1", "dingtalk-old:app1", "kuaishou:app1"} {
		fake := fakePlatform(key)
		fetcher := wxtoken.NewEndpointFetcher(key, right[key], wxtoken.WithBaseURL(fake.URL))
		first, err := wxtoken.New(fetcher, nil).Token(ctx)
		second, _ := fetcher.Fetch(ctx)
		_, denied := wxtoken.NewEndpointFetcher(key, wrong[key], wxtoken.WithBaseURL(fake.URL)).Fetch(ctx)
		fmt.Println(fetcher.Key(), first.Valid(), err, "the same again:", first.Value == second.Value)
		fmt.Println(denied)
		fake.Close()
	}
	// Output:
	// douyin:app1 true <nil> the same again: false
	// wxtoken: platform answered errcode 10013: client_key 或者 client_secret 报错
	// douyin-stable:app1 true <nil> the same again: true
	// wxtoken: platform answered errcode 10013: client_key 或者 client_secret 报错
	// feishu:app1 true <nil> the same again: true
	// wxtoken: platform answered errcode 10014: app secret invalid
	// dingtalk:app1 true <nil> the same again: true
	// wxtoken: platform answered errcode -2: invalidClientIdOrSecret: 无效的clientId或者clientSecret
	// dingtalk-old:app1 true <nil> the same again: true
	// wxtoken: platform answered errcode 40089: 不合法的corpid或corpsecret
	// kuaishou:app1 true <nil> the same again: false
	// wxtoken: platform answered errcode 100200101: invalid client
}

// fakePlatform answers the one request of the app "app1" with the secret "s3cret" as
// the platform's documentation says, and denies every other. A %d counts.
func fakePlatform(key string) *httptest.Server {
	const json, douyin = ` application/json `, `{"client_key":"app1","client_secret":"s3cret","grant_type":"client_credential"}`
	const douyinDenies = `{"data":{"description":"client_key 或者 client_secret 报错","error_code":10013},"message":"error"}`
	platform := map[string]struct{ request, answer, denial string }{
		"douyin:app1": {"POST /oauth/client_token/" + json + douyin,
			`{"data":{"access_token":"token-%d","error_code":0,"expires_in":7200},"message":"success"}`, douyinDenies},
		"douyin-stable:app1": {"POST /oauth/stable_client_token/" + json + douyin,
			`{"data":{"access_token":"the-token","error_code":0,"expires_in":7200},"message":"success"}`, douyinDenies},
		"feishu:app1": {"POST /open-apis/auth/v3/tenant_access_token/internal" + json + `{"app_id":"app1","app_secret":"s3cret"}`,
			`{"code":0,"msg":"ok","tenant_access_token":"t-the-token","expire":7140}`, `{"code":10014,"msg":"app secret invalid"}`},
		"dingtalk:app1": {"POST /v1.0/oauth2/accessToken" + json + `{"appKey":"app1","appSecret":"s3cret"}`,
			`{"accessToken":"the-token","expireIn":7200}`, `{"requestid":"6AC5","code":"invalidClientIdOrSecret","message":"无效的clientId或者clientSecret"}`},
		"dingtalk-old:app1": {"GET /gettoken?appkey=app1&appsecret=s3cret",
			`{"errcode":0,"access_token":"the-token","errmsg":"ok","expires_in":7200}`, `{"errcode":40089,"errmsg":"不合法的corpid或corpsecret"}`},
		"kuaishou:app1": {"POST /oauth2/access_token application/x-www-form-urlencoded app_id=app1&app_secret=s3cret&grant_type=client_credentials",
			`{"result":1,"access_token":"token-%d","expires_in":172800,"token_type":"bearer"}`, `{"result":100200101,"error":"invalid_client","error_msg":"invalid client"}`},
	}[key]
	var issued atomic.Int64
	return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		request := strings.Fields(fmt.Sprintf("%s %s %s %s", r.Method, r.URL, r.Header.Get("Content-Type"), body))
		answer := platform.denial
		if strings.Join(request, " ") == platform.request {
			answer = platform.answer
		}
		fmt.Fprint(w, strings.Replace(answer, "%d", fmt.Sprint(issued.Add(1)), 1))
	}))
}
