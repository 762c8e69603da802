// Package protocol decides how processes share one token. It does no I/O and reads
// no clock: a [Process] is asked for the next step and told what came of it, and the
// flights of package wxtoken do what it says. docs/design.md explains why it is right.
//
// Read process.go first: the order of the questions is there. The answers are in
// due.go (must the token be replaced?), lease.go (who fetches, and what is published),
// branch.go (is the record older than the copy?), reject.go (is the token still
// good?), cooldown.go (may the platform be asked?), member.go (and by one of those
// that live for seconds?) and offline.go (what without the cache?).
package protocol

import "time"

// Rules are the durations of the protocol and the traits of the credential.
type Rules struct {
	Fetch       time.Duration // F: a fetch's deadline
	Local       time.Duration // M: how long a copy is trusted
	Ahead       time.Duration // how long before its expiry a token is replaced
	Repeatable  bool          // a fetch does not supersede the token before
	AtExpiry    bool          // the platform repeats the token until it expires
	FullLife    bool          // it repeats it with its full life each time
	Changeable  bool          // Fingerprint may have changed: see Secret
	VagueMember bool          // Member may also name healthy processes: no lease has the name, and no failure with it is written back
	Fingerprint string        // of this process's secret, for the scope of cooldowns
	Member      func() string // names the processes that are started in the same way one after the other, such as this one; nil: there are none
}

// The durations that follow from F and M, and their usual values. The exported ones
// take a pointer: they are called without a lock, and must not copy Fingerprint.

func (ru *Rules) Watch() time.Duration     { return min(max(ru.Local/22, time.Millisecond), 5*time.Second) } // 2 s: takes the place of M while the token is unsettled
func (ru *Rules) Patience() time.Duration  { return max(ru.Fetch/10, time.Millisecond) }                     // 1 s: until callers get an old copy; until a first rejection is believed
func (ru *Rules) CacheCall() time.Duration { return ru.Fetch / 5 }                                           // 2 s: one call of the cache
func (ru *Rules) Flight() time.Duration    { return 6 * ru.Fetch }                                           // 60 s: one flight
func (ru Rules) fresh() time.Duration      { return ru.Local * 2 / 3 }                                       // 30 s: copies older are read again
func (ru Rules) lease() time.Duration      { return min(ru.Fetch*6/5, 45*time.Second) }                      // 12 s: a lease watched for longer is abandoned
func (ru Rules) youth() time.Duration      { return min(ru.Fetch*3/2, 45*time.Second) }                      // 15 s: a process may live for seconds only
func (ru Rules) verify() time.Duration     { return 2*ru.Local + ru.Fetch }                                  // 100 s: by then an unknown request has landed
func (ru Rules) ample() time.Duration      { return ru.verify() + 2*ru.Fetch }                               // 120 s: a token with more left need not be replaced in a hurry
func (ru Rules) announce() time.Duration   { return ru.Local + ru.Watch() }                                  // 47 s: by then every process reads the record often
func (ru Rules) respite() time.Duration    { return max(3*ru.verify()-ru.Fetch, 290*time.Second) }           // 290 s: between two fetches because the store lost the record; not less, as all share the quota

const (
	clockError = 2 * time.Minute // by which another machine's clock may be wrong
	recheck    = 5 * time.Minute // after which the platform is asked for a token of FullLife again
	overtime   = time.Minute     // the life of one that is repeated past its expiry
)

// Passed reports whether t is past by either clock: the monotonic one stands still
// while a machine is suspended, the wall clock may be set back.
func Passed(now, t time.Time) bool {
	return !now.Before(t) || !now.Round(0).Before(t.Round(0))
}

// The events of a Step and of DidRead.
const (
	Adopt     = "adopt"
	Takeover  = "takeover"
	LeaseLost = "lease_lost"
	Restore   = "restore"
	Reject    = "reject"
	Lost      = "lost" // the store lost the record
)
