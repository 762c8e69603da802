// Package errcode knows the platform's error codes, and finds them in responses.
package errcode

// Busy reports whether code says that the platform is busy.
func Busy(code int) bool { return code == -1 || code == -1000 }

// Advice is what to do about the codes of the token endpoints, and about those
// of other APIs that concern the token; "" for a code that is not known.
func Advice(code int) string {
	switch code {
	case -1, -1000:
		return "the platform is busy: try again"
	case 40001:
		return "at a token endpoint the secret is wrong; elsewhere the token is not the latest: does another system fetch for this app?"
	case 40125:
		return "check the secret: it may have been reset"
	case 40002, 41002, 41004, 43002:
		return "the request arrived changed: check WithBaseURL and any proxy"
	case 40013:
		return "check the appID"
	case 40014, 42001:
		return "fetch a new access token"
	case 40164, 61004:
		return "add this machine's public IP address to the app's whitelist; edits take about 5 minutes"
	case 40243:
		return "the secret is frozen: an administrator must thaw it, which takes 10 minutes"
	case 41001:
		return "the request had no access_token: put one in"
	case 42007:
		return "the user must authorize again; the app's token is not at fault"
	case 45009:
		return "the daily quota is spent: look for other systems that fetch for this app, or use NewStableFetcher"
	case 45011:
		return "too many calls this minute: wait for the next"
	case 50004, 50007:
		return "the account is frozen or may not fetch tokens: see the platform's console"
	case 61003:
		return "the account's owner must authorize the platform again"
	case 61005, 61006:
		return "wait for the next component_verify_ticket: check that pushes arrive"
	case 61007:
		return "the account's owner has not given the platform this permission"
	case 61009, 61010:
		return "have the account's owner authorize again: a code is for one use, and expires"
	case 61011:
		return "check the component's appID"
	case 61023:
		return "the refresh token is not the account's latest"
	case 61024:
		return "the app is bound to a third-party platform: use that platform's token"
	case 89501, 89503:
		return "an administrator must confirm this machine's IP address"
	case 89506:
		return "an administrator refused this machine's IP address: wait 24 hours"
	case 89507:
		return "an administrator refused this machine's IP address: wait 1 hour"
	}
	return ""
}
