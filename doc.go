// Package wxtoken keeps one valid WeChat access_token for every goroutine,
// process and machine of an app.
//
// Each token that WeChat issues for an app supersedes the one before. So everything
// that uses an app must share one token, and nothing but this package may fetch it:
// give all processes the same Cache, key prefix and options.
//
//	src := wxtoken.New(wxtoken.NewStableFetcher(appID, secret), wxtoken.NewRedisCache(rdb))
//	tok, err := src.Token(ctx) // tok.Value goes into ?access_token=
//
// Or let a Transport add the token to each request, and replace rejected tokens:
//
//	client := &http.Client{Transport: &wxtoken.Transport{Source: src}}
//
// Make one Source for each app and keep it. Most calls of Token read a copy in
// memory; the token is replaced in the background before it expires. A caller blocks
// only while there is no usable token, and never beyond its ctx.
//
// # Fetchers and caches
//
// A Fetcher asks a platform for a token: NewStableFetcher and NewFetcher for WeChat,
// NewTicketFetcher for the JS-SDK, NewWeComFetcher, NewQQFetcher, and
// NewEndpointFetcher and FetcherFunc for everything else. A fetcher that may fetch
// twice without harm is Repeatable.
//
// A Cache is what processes share: NewMemoryCache for one process, NewFileCache for
// one machine, NewRedisCache, NewMemcachedCache, and those in the modules under
// stores. The only shared state of a credential is one record under one key, changed
// only by compare-and-swap; the cache may lose it at any time.
//
// # Rejected tokens
//
// A token can still be rejected: another system may have fetched one, this process
// may have been paused while it held the token, or the platform may misbehave. Call
// Invalidate and retry once; Transport does both.
//
// # Seeing what happens
//
// WithLogger and WithObserver report Events, Peek is for readiness handlers, and Wait
// is for programs that are about to exit. Errors say what to do; use errors.As to
// find an *APIError in them. The secret is in no record, key, log, event or error,
// and no part of a token is in a key, log, event or error.
//
// The README lists what is promised, and docs/design.md says why it holds. Package
// wxtest is a fake of the platform for tests, jssdk signs pages, openplatform keeps
// the tokens of third-party platforms, and adapter connects other SDKs.
package wxtoken
