// Package chaos tests the library with real processes and real servers, while
// both are killed, stopped and cut off. It has tests only: `make chaos` runs them
// for minutes, `go test` for seconds.
//
// Six processes share a token of the fake platform (package wxtest, which accepts
// only the latest two tokens) through a store, each over a proxy of its own. Two
// more live for 3 to 10 s each time. A last one is behind a proxy that spoils its
// requests for a token. All make business calls without end. Faults come in an
// order that the seed sets; the machine decides when exactly they strike, so a
// seed repeats the faults of a run and not each interleaving.
//
// # What must hold
//
//  1. At most one call in a thousand is rejected again after Invalidate returned
//     nil and the call was repeated once; without faults no call is rejected.
//  2. The platform issues at most one token for each lifetime that began, and one
//     more for every two faults.
//  3. No process is without a token for longer than recovery, not counting the
//     time for which a fault keeps it from running, the store or the platform.
//
// # Scale
//
// All that a user can configure is 50 times faster than by default: a second here
// stands for 50. These do not scale: cooldowns (1 s and more), the pause before
// an HTTPFetcher asks again, the timeouts of the stores' clients, and the time
// in which Sentinel and Cluster promote a replica (2 to 5 s). So recovery takes
// longer here, relative to everything else, than in production.
package chaos
