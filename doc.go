// Package wxtoken keeps one valid WeChat access_token for every goroutine,
// process and machine of an app.
//
// WeChat supersedes an app's token whenever somebody fetches another. So all that
// uses an app must share one token, and nothing but this package may fetch it:
// give all processes the same Cache, key prefix and options.
//
//	src := wxtoken.New(wxtoken.NewStableFetcher(appID, secret), wxtoken.NewRedisCache(rdb))
//	tok, err := src.Token(ctx) // tok.Value goes into ?access_token=
//
// Or let each request be given the token, and have rejected tokens replaced:
//
//	client := &http.Client{Transport: &wxtoken.Transport{Source: src}}
//
// A Source is made once for each app and kept. Most calls of Token read a copy in
// memory; the token is replaced in the background before it expires. A caller
// blocks only while there is no usable token, and never beyond its ctx.
//
// # Fetchers and caches
//
// A Fetcher asks a platform for a token: NewStableFetcher and NewFetcher for
// WeChat, NewTicketFetcher for the JS-SDK, NewWeComFetcher, NewQQFetcher,
// NewEndpointFetcher and FetcherFunc for everything else. One that may fetch twice
// without harm is Repeatable.
//
// A Cache is what processes share: NewMemoryCache for one process, NewFileCache
// for one machine, NewRedisCache, NewMemcachedCache, and those in modules under
// stores. All that is shared of a credential is one record under one key, changed
// only by compare-and-swap; the cache may lose it at any time.
//
// # Rejected tokens
//
// A token can be rejected all the same: because another system fetched, because
// this process was paused while it held the token, or because the platform
// misbehaves. Call Invalidate and retry once; Transport does both.
//
// # Seeing what happens
//
// WithLogger and WithObserver report Events, Peek is for readiness handlers, and
// Wait for programs that end soon. Errors say what to do; find an *APIError in
// them by errors.As. The secret is in no record, key, log, event or error, and no
// part of a token is in a key, log, event or error.
//
// The README lists what is promised, and docs/design.md says why it holds. Package
// wxtest is a fake of the platform for tests, jssdk signs pages, openplatform keeps
// the tokens of third-party platforms, and adapter lets other SDKs take part.
package wxtoken
