// Package chaos plays the protocol with real processes against real servers
// while both are killed, stopped and cut off from one another. It has tests
// only: `make chaos` runs them for minutes, `make test` for seconds.
//
// Six worker processes share one token of the fake platform (wxtest, which
// honours only the latest two tokens) through Redis, Sentinel, Redis Cluster or
// Memcached, each over a proxy of its own. They make business calls without end
// and report each one's result. The test injects faults in an order that its
// seed sets; when they strike is up to the machine, so a seed repeats a run's
// faults and not its every interleaving.
//
// # Refused after one retry
//
// A call that an API refuses is told to Invalidate and made once more with what
// Token then gives, if it gives one. It may be refused again only if the process
// was stopped by SIGSTOP between Token and the platform's answer: then no library
// can help. Where the cache is out of reach, Token keeps the refused token back
// for the watch age, so the retry gets an error; one that the machine held up for
// longer than that is counted apart. Any other second refusal fails the test.
//
// # Scale
//
// Everything that the library lets its user set is 50 times faster than by
// default, so that a second here stands for 50. What does not scale: the
// cooldown after a fetch without an answer or with "busy" (1 s, doubling up to
// 30 s, here as long as 25 minutes), an HTTPFetcher's pause before it asks again
// (100 ms), the clients' own timeouts and pauses between dials, and the time
// that Sentinel and Cluster take to notice a dead master and promote a replica
// (some 2 to 5 s, here as long as 4 minutes). So outages look longer here than
// they are.
package chaos
