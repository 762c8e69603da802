// Package wxtest is a fake of the WeChat platform for tests of applications, in the
// manner of net/http/httptest: its token endpoints, and business APIs that check the
// token.
//
//	srv := wxtest.NewServer(wxtest.WithApp("wx1", "secret"))
//	defer srv.Close()
//	client := srv.Client() // every host, api.weixin.qq.com as well, is srv
//
// The test can then break things (Inject, Revoke, Expire, Issue, SetSecret,
// SetWhitelist, Deny) and look at the platform's state (Latest, Honoured, Stats).
//
// It follows the platform's documentation and logged answers. Where these are
// ambiguous, the comments say what was chosen, and [WithStrictGrace] selects the
// stricter of two readings. It checks tokens, not what is sent to a business API, and
// keeps everything in memory. Only tests should be able to reach it.
//
// # Third-party platforms
//
// AddComponent adds a third-party platform (第三方平台). PushTicket, PushAuthorized and
// PushUnauthorized push to the URL of the code under test, signed and encrypted as
// the platform does; IssueTicket and IssueCode do the same without a push. Where the
// documentation is silent, [WithThirdParty] selects the other readings.
//
// # Time
//
// All times come from package time. In a testing/synctest bubble two hours pass at
// once; sockets do not work there, so use [NewPlatform] instead of [NewServer]: its
// Client calls the platform in process.
//
//	synctest.Test(t, func(t *testing.T) {
//		p := wxtest.NewPlatform(wxtest.WithApp("wx1", "secret"))
//		client := p.Client()
//		...
//		time.Sleep(2 * time.Hour) // tokens have expired
//	})
package wxtest
