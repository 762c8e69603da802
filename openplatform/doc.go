// Package openplatform keeps the credentials of a third-party platform (微信开放平台第三方平台):
// its component_verify_ticket, its component_access_token, and for each account that
// has authorized it an authorizer_access_token and the refresh token that renews it.
// All processes of the platform share them through one [wxtoken.Cache]. One process at
// a time fetches each of them, and each is replaced before it expires.
//
//	p := openplatform.New(appID, appSecret, wxtoken.NewRedisCache(rdb),
//		openplatform.WithCallback(msgToken, encodingAESKey))
//	http.Handle("/wechat/events", p)                  // 授权事件接收URL
//	tok, err := p.Authorizer("wx…").Token(ctx)        // authorizer_access_token
//
// # What happens automatically
//
// ServeHTTP handles the platform's pushes: it keeps the newest ticket, exchanges the
// codes of new authorizations, and stops handing out the tokens of an authorization
// that the owner has ended. If there is no ticket, or the platform no longer accepts
// it, api_start_push_ticket is called, at most once in 10 minutes for all processes.
// A refresh token that is returned with a token is saved before the token is handed
// out; a lost one is recovered by api_get_authorizer_list.
//
// # Refresh tokens
//
// Refresh tokens are kept in the cache, or in the application's own store
// ([WithRefreshTokens]). A cache may lose them at any time: they are then read again
// from the platform, with one request for every 200 authorizers. WithEncryption,
// passed through [WithSourceOptions], also encrypts tickets and refresh tokens; use it,
// since a refresh token is as good as the authorization itself.
package openplatform
