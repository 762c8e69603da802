// Package wxtoken keeps one valid WeChat access_token for every goroutine, process
// and machine of an app.
//
// WeChat supersedes an app's token whenever it issues another. So all programs that
// use an app must share one token, and nothing but this package may fetch it: give
// all processes the same [Cache], key prefix and options.
//
//	src := wxtoken.New(wxtoken.NewStableFetcher(appID, secret), wxtoken.NewRedisCache(rdb))
//	tok, err := src.Token(ctx) // tok.Value goes into ?access_token=
//
// Or let a [Transport] add the token to each request, and replace rejected tokens:
//
//	client := &http.Client{Transport: &wxtoken.Transport{Source: src}}
//
// Make one [Source] for each app when the process starts, and keep it. Most calls of
// [Source.Token] read a copy in memory, and the token is replaced in the background
// before it expires.
//
// # Fetchers and caches
//
// A [Fetcher] asks a platform for a token: [NewStableFetcher] and [NewFetcher] for
// WeChat, [NewTicketFetcher] for the JS-SDK, [NewWeComFetcher], [NewQQFetcher], and
// [NewEndpointFetcher] and [FetcherFunc] for everything else. Declare a fetcher that
// may fetch twice without harm to be [Repeatable].
//
// A [Cache] is what processes share: [NewMemoryCache] for one process, [NewFileCache]
// for one machine, [NewRedisCache] and [NewMemcachedCache], and SQL, etcd and rueidis
// in the modules under stores. The only shared state of a credential is one record
// under one key, changed only by compare-and-swap; the cache may lose it at any time.
//
// # Rejected tokens
//
// A token can still be rejected: another system may have fetched one, this process
// may have been paused while it held the token, or the platform may misbehave. Call
// [Source.Invalidate] and retry once; Transport does both.
//
// # See what happens
//
// [WithLogger] and [WithObserver] report each [Event], [Source.Peek] is for readiness
// handlers, and [Source.Wait] is for programs that are about to exit. Errors begin
// with "wxtoken:" and say what to do; use errors.As to find an [*APIError] in them.
//
// # What is promised
//
//  1. Without faults there is one fetch in a token's lifetime, 12 or 13 a day,
//     whatever the number of processes.
//  2. A caller waits for the platform only while there is no usable token, never
//     beyond its ctx, and never fails because of another caller's ctx.
//  3. While the store answers within a second, no copy is used that was last
//     compared with the record over 45 s ago.
//  4. No process, store or clock takes a usable token from the others, or makes all
//     of them fetch over 320 times a day. [docs/design.md] has the exceptions that
//     are known.
//  5. No error, log line, event or key contains the secret or part of a token. The
//     secret is in no record either.
//  6. Not promised: that no call is ever rejected. [docs/design.md] says when.
//
// # Other packages
//
// Package wxtest is a fake of the platform for tests, jssdk signs pages, openplatform
// keeps the tokens of third-party platforms, adapter connects other SDKs, and
// cachetest tests a Cache of your own.
//
// # Compatibility
//
// Releases follow semantic versioning: before 1.0.0 a minor version may change the Go
// API, the kinds of Event and the names of metrics, as CHANGELOG.md then says. Every
// release reads the records of earlier ones, which read its records or leave them
// alone, so processes can be updated one by one. Texts of errors and logs may change.
//
// [docs/design.md]: https://github.com/wxtoken/wxtoken/blob/main/docs/design.md#what-is-not-promised
package wxtoken
