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
	platform := fakeOldDingTalk()
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

// fake denies every request but those that it has an answer to; a %d in that counts.
func fake(denied string, answers map[string]string) *httptest.Server {
	var issued atomic.Int64
	return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		request := strings.Fields(fmt.Sprintf("%s %s %s %s", r.Method, r.URL, r.Header.Get("Content-Type"), body))
		answer, ok := answers[strings.Join(request, " ")]
		if !ok {
			answer = denied
		}
		fmt.Fprint(w, strings.Replace(answer, "%d", fmt.Sprint(issued.Add(1)), 1))
	}))
}

// fakeDouyin has client_token, whose third answer ends the first token at once,
// and stable_client_token, which repeats.
func fakeDouyin() *httptest.Server {
	const body = ` application/json {"client_key":"app1","client_secret":"s3cret","grant_type":"client_credential"}`
	return fake(`{"data":{"description":"client_key 或者 client_secret 报错","error_code":10013},"message":"error"}`, map[string]string{
		"POST /oauth/client_token/" + body:        `{"data":{"access_token":"token-%d","error_code":0,"expires_in":7200},"message":"success"}`,
		"POST /oauth/stable_client_token/" + body: `{"data":{"access_token":"the-token","error_code":0,"expires_in":7200},"message":"success"}`,
	})
}

// fakeFeishu repeats its tenant_access_token while 30 minutes are left.
func fakeFeishu() *httptest.Server {
	return fake(`{"code":10014,"msg":"app secret invalid"}`, map[string]string{
		`POST /open-apis/auth/v3/tenant_access_token/internal application/json {"app_id":"app1","app_secret":"s3cret"}`: `{"code":0,"msg":"ok","tenant_access_token":"t-the-token","expire":7140}`,
	})
}

// fakeDingTalk has the new endpoint, which repeats.
func fakeDingTalk() *httptest.Server {
	return fake(`{"requestid":"6AC5","code":"invalidClientIdOrSecret","message":"无效的clientId或者clientSecret"}`, map[string]string{
		`POST /v1.0/oauth2/accessToken application/json {"appKey":"app1","appSecret":"s3cret"}`: `{"accessToken":"the-token","expireIn":7200}`,
	})
}

// fakeOldDingTalk has the old one, which repeats as well.
func fakeOldDingTalk() *httptest.Server {
	return fake(`{"errcode":40089,"errmsg":"不合法的corpid或corpsecret"}`, map[string]string{
		"GET /gettoken?appkey=app1&appsecret=s3cret": `{"errcode":0,"access_token":"the-token","errmsg":"ok","expires_in":7200}`,
	})
}

// fakeKuaishou takes a form, and says 1 for success.
func fakeKuaishou() *httptest.Server {
	return fake(`{"result":100200101,"error":"invalid_client","error_msg":"invalid client"}`, map[string]string{
		"POST /oauth2/access_token application/x-www-form-urlencoded app_id=app1&app_secret=s3cret&grant_type=client_credentials": `{"result":1,"access_token":"token-%d","expires_in":172800,"token_type":"bearer"}`,
	})
}
