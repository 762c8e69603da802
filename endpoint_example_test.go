package wxtoken_test

import (
	"context"
	"fmt"

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
