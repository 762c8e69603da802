package protocol

import "time"

// due reports whether r's token must be replaced.
func (p *Process) due(r Record, now time.Time) bool {
	v := &p.view
	switch {
	case !r.usable(now):
		return true
	case r.Owed > 0 && r.left(now) > p.ample():
		wait := p.verify()
		if v.own != nil || p.ours(r.Cooldown, now) { // its last fetch failed: the others settle this first
			wait *= 2
		}
		// A store that keeps losing the record must not cause a fetch each time.
		return now.Sub(v.seqSeen) >= wait && (v.born == r.Epoch || now.Sub(v.copySeen) >= p.respite())
	}
	return !now.Before(p.turn(r)) || p.outlived(r, now)
}

// turn is when this process is to replace r's token. One whose own last fetch
// failed, before that or with an outcome that is still unknown, is the last to try.
func (p *Process) turn(r Record) time.Time {
	turn := p.refreshAt(r)
	if f := p.view.own; f != nil && (f.at.Before(turn) || r.Owed > 0) {
		turn = turn.Add(r.expires().Sub(turn) * 3 / 4)
	}
	return turn
}

// outlived reports whether this process has seen r's token for almost as long as it
// lives, although it is not to expire yet: the issuer's clock was ahead. The issuer
// is first given the time to replace the token.
func (p *Process) outlived(r Record, now time.Time) bool {
	life := max(r.life()-p.ample(), p.turn(r).Sub(r.issued()))
	if p.FullLife {
		life = 2 * recheck
	}
	return r.sameIssue(p.view.copy) && now.Sub(p.view.copySeen) >= life
}

// refreshAt is when r's token is to be replaced if nothing is the matter. One that
// the platform would only repeat is replaced when it expires or, if nobody knows when
// that is, as soon as the platform no longer repeats it.
func (ru Rules) refreshAt(r Record) time.Time {
	if ru.FullLife {
		return time.UnixMilli(min(r.IssuedAt+recheck.Milliseconds(), r.ExpiresAt))
	}
	ahead, repeated := ru.Ahead, ru.AtExpiry
	if ru.Repeatable && r.life() <= ahead*5/4 {
		ahead = min(ahead, 5*time.Minute) // then stable_token issues another
		repeated = repeated || r.life() <= ahead*5/4
	}
	if repeated {
		return r.expires()
	}
	return r.expires().Add(-min(ahead, r.life()/4))
}
