package protocol

import (
	"slices"
	"strings"
	"time"
)

// Processes that live for seconds, and are started again and again, remember nothing of
// each other. If one of them fails, or is killed in a fetch, the record remembers it for
// the next: by the member, a name that they share.

// young reports whether this process has just started, and may be one of those that
// live for seconds.
func (p *Process) young(now time.Time) bool { return now.Sub(p.began) < p.youth() }

// brief reports whether this process was started minutes ago, and may be one of those
// that live for minutes.
func (p *Process) brief(now time.Time) bool { return now.Sub(p.began) < maxLease }

// member names the processes that are started one after the other, such as this one.
func (p *Process) member() string {
	if p.Member == nil {
		return p.id
	}
	return p.Member()
}

// owner returns the process that has lease and, if the lease names it, its member.
func owner(lease string) (id, member string) {
	id, rest, _ := strings.Cut(lease, ".")
	_, member, _ = strings.Cut(rest, ".")
	return id, member
}

// membersBut are the members that failed, the latest first, without one of them.
func (c *Cooldown) membersBut(member string) []string {
	members := append(strings.Fields(c.Member), strings.Fields(c.Before)...)
	return slices.DeleteFunc(members, func(m string) bool { return m == member })
}

// before is Before for the cooldown that follows c because member has failed; member is
// "" if that lives for long. Names that another implementation made long may not all fit,
// and no process could read the record with them.
func (c *Cooldown) before(member string) string {
	members := c.membersBut(member)
	for n := min(len(members), maxBefore); ; n-- {
		if names := strings.Join(members[:n], " "); len(names) <= maxName {
			return names
		}
	}
}

// ours reports whether c is about this process's member, which must not be the first to
// try each time.
func (p *Process) ours(c *Cooldown, now time.Time) bool {
	if c == nil || c.Member+c.Before == "" || !p.brief(now) {
		return false
	}
	member := p.member() // "" before the first lease of one without a name
	return member != "" && (member == c.Member || slices.Contains(strings.Fields(c.Before), member))
}

// meant is how long a process that did not fail itself waits for c. What a brief
// process met says little to those that are not: the next may be another of its member.
// And the first failure of a member may be chance.
func (p *Process) meant(c *Cooldown, now time.Time) time.Duration {
	pen, wait := p.penaltyFor(c.cause()), p.sharedWait(c)
	switch {
	case c.Member != "" && !p.brief(now):
		return pen.shared().first
	case !p.ours(c, now):
		return wait
	case c.Member != p.member(): // it failed before that: one that has not failed goes first
		return wait + min(max(wait, time.Minute), pen.last/4)
	case c.Row > 0:
		return max(wait, pen.delay(c.Row-1))
	}
	return wait
}

// orphaned returns the cooldown that the owner of an abandoned lease left, following
// prev, and nil if it left none: it may be one of a member whose processes die in each
// fetch, and note no failure. That counts as one with an unknown outcome, or as one more
// like the last of that member. The others wait only where members die in turn, and
// nobody has fetched in between: until about a minute after the lease began, so that all
// together stay within the daily quota, and a healthy one gets its turn.
func (p *Process) orphaned(lease string, prev *Cooldown, now time.Time) *Cooldown {
	by, member := owner(lease)
	if member == "" {
		return nil
	}
	c := Cooldown{Message: unanswered, Member: member}
	if prev != nil && prev.recent(now) {
		c.Before = prev.before(member)
		switch {
		case prev.Member == member:
			c = *prev
			c.Row = oneMore(c.Row)
		case !prev.Lifted:
			c.Step = p.stepAfter(prev, &c)
		}
	}
	wait := min(p.sharedWait(&c), time.Minute)
	c.By, c.Until, c.Lifted = by, now.Add(max(wait-p.lease(), 0)).UnixMilli(), false
	return &c
}

// lifted is what remains of c when this process has fetched a token: what the members
// that failed have to remember, if there are others. By a clock that is ahead each token
// has expired.
func (p *Process) lifted(c *Cooldown, now time.Time) *Cooldown {
	if c == nil || now.Sub(c.until()) > time.Hour {
		return nil
	}
	members := c.membersBut(p.member())
	if len(members) == 0 {
		return nil
	}
	l := *c
	if l.Member, l.Before = members[0], strings.Join(members[1:], " "); l.Member != c.Member {
		l.Row = 0
	}
	pen := p.penaltyFor(c.cause()).shared()
	l.Until -= (pen.delay(c.Step) - pen.first).Milliseconds() // past for version 0.1, which does not know lifted
	l.Step, l.Lifted = 0, true
	return &l
}
