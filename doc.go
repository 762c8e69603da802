// Package wxtoken keeps one valid WeChat access_token for every goroutine,
// process and machine that works for an app.
//
// Each token that WeChat issues by cgi-bin/token supersedes the one before it.
// So everything that uses an app must share one token, and this package must be
// the only one to fetch it: give all processes the same Cache, key prefix and
// options, and let nothing else fetch for the app.
//
//	src := wxtoken.New(wxtoken.NewFetcher(appID, secret), wxtoken.NewRedisCache(rdb))
//	tok, err := src.Token(ctx) // tok.Value goes into ?access_token=
//
// or have it done for each request, refused tokens replaced:
//
//	client := &http.Client{Transport: &wxtoken.Transport{Source: src}}
//
// All that processes agree on is one record for each credential, under one key
// of the Cache, changed only by compare-and-swap.
//
// # What is promised
//
// Without faults there is one fetch in a token's lifetime, for all processes
// together. The token is replaced in the background before it ends; a caller
// waits for it only while there is no usable token, and no longer than its ctx.
// While the cache answers, no copy is given out that has not been compared with
// the record for 45 s; a superseded token lives for 5 minutes. Processes that die
// or freeze, lost replies and lost records cost a fetch more, and heal by
// themselves. The secret is in no record, key, log, event or error.
//
// # What is not
//
// A token can be refused all the same: because another system fetched, because
// this process was frozen with the token in its hand, or because the platform
// errs. So tell Invalidate, and send the call once more; Transport does both.
// While the cache does not answer, a process has only its own copy, and a
// Source without one returns ErrCacheUnavailable and fetches nothing, unless its
// Fetcher is Repeatable. A MemoryCache is good for one process only. Whoever can
// write to the cache is trusted.
//
// The protocol, with figures, is in docs/design.md of the repository; package
// wxtest is a fake of the platform for tests.
package wxtoken
