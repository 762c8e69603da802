// Package chaos plays the protocol with real processes against real servers
// while both are killed, stopped and cut off from one another. It has tests
// only: `make chaos` runs them for minutes, `make test` for seconds.
//
// Six worker processes share one token of the fake platform (wxtest, which
// honours only the latest two tokens) through one of the stores, each over a
// proxy of its own. Two more live for 3 to 10 s each time, and one is behind a
// proxy that spoils its requests for a token. They make business calls without
// end and report each one's result. The test injects faults in an order that its
// seed sets; when they strike is up to the machine, so a seed repeats a run's
// faults and not its every interleaving.
//
// # What must hold
//
//  1. After Invalidate returned nil, no call is rejected again. Not judged is a
//     call that was held up between Token and the platform's answer, by SIGSTOP
//     or by the machine: no library can help there. Nor is one while the platform
//     is cut off: tokens can be issued then that nobody hears of.
//  2. Nobody fetches while the record says that there is nothing to fetch for,
//     and without faults there is one fetch in each lifetime.
//  3. A process that is neither spoiled nor stopped, and can reach cache and
//     platform, is at no time without a token for longer than isolated. When the
//     faults are over, every process comes to use the latest token.
//
// # Scale
//
// Everything that the library lets its user set is 50 times faster than by
// default, so that a second here stands for 50. What does not scale: cooldowns
// (1 s to 30 s and more), an HTTPFetcher's pause before it asks again (100 ms),
// the clients' own timeouts and pauses between dials, and the time that Sentinel
// and Cluster take to notice a dead master and promote a replica (some 2 to 5 s,
// here as long as 4 minutes). So outages look longer here than they are.
package chaos
