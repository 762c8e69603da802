// Package errcode knows the platforms' error codes, and finds them in responses.
package errcode

// A Platform is one that wxtoken fetches tokens from. Its zero value is an unknown
// platform.
type Platform string

// The platforms whose APIs and error codes are known. Stable is WeChat with
// cgi-bin/stable_token. ThirdParty is WeChat's platform for systems that act on
// behalf of accounts (微信开放平台第三方平台).
const (
	WeChat     Platform = "wechat"
	Stable     Platform = "stable"
	WeCom      Platform = "wecom"
	QQ         Platform = "qq"
	ThirdParty Platform = "third-party"
)

// Busy reports whether code says that the platform is busy.
func Busy(code int) bool { return code == -1 || code == -1000 }

// Advice says what to do about a code of p's token endpoints, or one of its other
// APIs that concerns a token; "" for an unknown code. For an unknown platform it
// returns what applies to all of them.
func (p Platform) Advice(code int) string {
	own := ""
	switch p {
	case WeChat, Stable:
		own = weChat(p, code)
	case WeCom:
		own = weCom(code)
	case ThirdParty:
		own = thirdParty(code)
	}
	if own != "" {
		return own
	}
	return common(code)
}

func weChat(p Platform, code int) string {
	switch {
	case code == 45009 && p == Stable:
		return "the daily quota is spent: look for systems that ask for this app in a loop or with force_refresh"
	case code == 45009:
		return "the daily quota is spent: look for other systems that fetch for this app, or use NewStableFetcher"
	}
	return ""
}

func weCom(code int) string {
	switch code {
	case 40001, 40091:
		return "check the secret: it must be the one of this app, and of this corporation"
	case 40013:
		return "check the corpID"
	case 45009:
		return "too many calls: look for code that asks again and again after an error; the limit lasts for up to an hour"
	}
	return ""
}

func thirdParty(code int) string {
	switch code {
	case 40013, 61011:
		return "check the third-party platform's appID (component_appid)"
	case 40125:
		return "check the third-party platform's secret: it may have been reset"
	case 40164, 61004:
		return "add this machine's public IP address to the third-party platform's whitelist; edits take about 5 minutes"
	case 45009:
		return "the daily quota is spent: look for other systems that fetch for this third-party platform"
	}
	return ""
}

// common returns the advice for codes that mean the same on every platform.
func common(code int) string {
	switch code {
	case -1, -1000:
		return "the platform is busy: try again"
	case 40001:
		return "at a token endpoint the secret is wrong; elsewhere the token is not the latest: does another system fetch for this app?"
	case 40125:
		return "check the secret: it may have been reset"
	case 40002, 41002, 41004, 41018, 43002, 47001:
		return "the request arrived changed: check WithBaseURL and any proxy"
	case 40013:
		return "check the appID"
	case 40014, 42001:
		return "fetch a new access token"
	case 40082:
		return "the token of the suite or provider is invalid, or the corporation has not installed the suite"
	case 40083, 40084:
		return "the permanent code is invalid: the corporation must authorize again"
	case 40085:
		return "the suite_ticket is invalid: use the newest that was pushed"
	case 40164, 61004:
		return "add this machine's public IP address to the app's whitelist; edits take about 5 minutes"
	case 40243:
		return "the secret is frozen: an administrator must unfreeze it, which takes 10 minutes"
	case 41001:
		return "the request had no access_token: add one"
	case 42006:
		return "fetch a new component_access_token"
	case 42007:
		return "the user must authorize again; the app's token is not at fault"
	case 42009:
		return "fetch a new suite_access_token"
	case 45009:
		return "the quota is spent: look for other systems that fetch for this app"
	case 45011:
		return "too many calls this minute: wait for the next"
	case 45033:
		return "too many calls at the same time: send fewer in parallel"
	case 50004, 50007:
		return "the account is frozen or may not fetch tokens: see the platform's console"
	case 60020:
		return "this machine's IP address is not allowed: add its public address to the app's trusted IPs in the WeCom console"
	case 61003:
		return "the account has not authorized the third-party platform, or no longer does: it must authorize again"
	case 61005, 61006:
		return "the component_verify_ticket is not valid: check that the platform's pushes arrive, and use the newest"
	case 61007:
		return "the account has not granted this permission to the third-party platform"
	case 61009, 61010:
		return "the authorization code was used or has expired: the account must authorize again"
	case 61023:
		return "the refresh token is invalid: use the newest, or let the account authorize again"
	case 61024:
		return "the app is bound to a third-party platform: use that platform's token"
	case 89501, 89503:
		return "an administrator must confirm this machine's IP address"
	case 89506:
		return "an administrator denied this machine's IP address: wait 24 hours"
	case 89507:
		return "an administrator denied this machine's IP address: wait 1 hour"
	}
	return ""
}

// Conflict says what to do when p's APIs reject one token after another soon after
// its issue. A repeatable token is one that no fetch supersedes.
func (p Platform) Conflict(repeatable bool) string {
	switch {
	case p == Stable:
		return "the platform repeats a token that its APIs reject, or another system forces refreshes; two forced refreshes invalidate such a token: run wxtoken reject -force, and look for what else uses force_refresh"
	case p == WeCom:
		return "the platform repeats a token that its APIs reject, or revokes tokens early: check the app in the WeCom console, and that the calls carry the token of their own app"
	case repeatable:
		return "the platform repeats a token that its APIs reject, or another system forces new ones: find that system"
	case p == WeChat:
		return "another system probably fetches for the same app: let it use this cache or a token server, or change to NewStableFetcher"
	case p == ThirdParty:
		return "another system probably fetches for the same account: let it use this cache"
	}
	return "another system probably fetches for the same app: let it use this cache or a token server"
}
