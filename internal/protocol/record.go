package protocol

import (
	"encoding/json"
	"errors"
	"strings"
	"time"
)

// recordVersion goes up when a reader of the version before would misread.
const recordVersion = 1

// What the protocol can leave in a record at most: of doubt, and of anything it
// counts, which no life is long enough for, and which can still be added to.
const mostOwed, mostCounted = 3, 1 << 30

// A Record is all that the processes sharing a credential agree on: the latest
// token, and the lease of the fetch under way. It is changed only by
// compare-and-swap. docs/protocol.md describes it for readers in any language.
type Record struct {
	Version   int       `json:"v"`
	Epoch     string    `json:"epoch"`                // random, made with the record; tells it from one that was lost
	Seq       int64     `json:"seq"`                  // one more with each token, doubt or refusal
	Token     string    `json:"token,omitempty"`      // empty before the first fetch
	IssuedAt  int64     `json:"issued_at,omitempty"`  // unix ms, from before the request was sent
	ExpiresAt int64     `json:"expires_at,omitempty"` // unix ms
	Lease     string    `json:"lease,omitempty"`      // random nonce of the fetch under way
	Owed      int       `json:"owed,omitempty"`       // fetches until the token is known to be the latest
	Rejected  bool      `json:"rejected,omitempty"`   // an API refused the token
	Early     int       `json:"early,omitempty"`      // tokens in a row that were refused before their time
	Cooldown  *Cooldown `json:"cooldown,omitempty"`   // the last fetch failed
}

func (r Record) expired(now time.Time) bool { return r.ExpiresAt <= now.UnixMilli() }

// usable reports whether r's token can be given to a caller.
func (r Record) usable(now time.Time) bool {
	return r.Token != "" && !r.Rejected && !r.expired(now)
}

func (r Record) left(now time.Time) time.Duration {
	return time.UnixMilli(r.ExpiresAt).Sub(now)
}

// TTL keeps the record for an hour past all that it speaks of, since a doubt or
// a growing cooldown outlives the token. Losing one that speaks of more than a
// year does no harm.
func (r Record) TTL(now time.Time) time.Duration {
	last := max(r.ExpiresAt, now.UnixMilli())
	if r.Cooldown != nil {
		last = max(last, r.Cooldown.Until)
	}
	return min(time.UnixMilli(last).Sub(now), 365*24*time.Hour) + time.Hour
}

var (
	ErrGarbage = errors.New("wxtoken: the value in the cache is no record; it is replaced")
	ErrNewer   = errors.New("wxtoken: the record in the cache was written by a newer wxtoken; upgrade this process, or give it a WithKeyPrefix of its own")
	ErrNoKey   = errors.New("wxtoken: the record in the cache is sealed and no key of this process opens it; give WithEncryption the key that sealed it")
)

// sealedRecord is how an encrypted record looks in the cache.
type sealedRecord struct {
	Version int    `json:"v"`
	Sealed  []byte `json:"sealed"` // base64 of nonce and AES-256-GCM ciphertext of the plain record
}

// Encode gives the bytes for the cache, sealed if there is a key.
func Encode(r Record, seal Sealer) []byte {
	r.Version = recordVersion
	raw, _ := json.Marshal(r) // of strings and numbers: cannot fail
	if len(seal.Keys) > 0 {
		raw, _ = json.Marshal(sealedRecord{recordVersion, seal.seal(raw)})
	}
	return raw
}

// Decode returns ErrGarbage for what may be overwritten, and ErrNewer or
// ErrNoKey for what must not be.
func Decode(raw []byte, seal Sealer) (Record, error) {
	var head struct {
		Version int             `json:"v"`
		Sealed  json.RawMessage `json:"sealed"`
	}
	if json.Unmarshal(raw, &head) != nil || head.Version < 1 {
		return Record{}, ErrGarbage
	}
	if head.Version > recordVersion {
		return Record{}, ErrNewer
	}
	if head.Sealed != nil {
		var box []byte
		if json.Unmarshal(head.Sealed, &box) != nil {
			return Record{}, ErrGarbage
		}
		plain, err := seal.open(box)
		if err != nil {
			return Record{}, err
		}
		raw = plain
	}
	var r Record
	if json.Unmarshal(raw, &r) != nil || !r.sane() {
		return Record{}, ErrGarbage
	}
	return r, nil
}

// sane refuses what this protocol cannot have written.
func (r Record) sane() bool {
	return r.Version == recordVersion && r.Epoch != "" && 0 <= r.Seq && r.Seq < 1<<53 &&
		0 <= r.Early && r.Early < mostCounted && 0 <= r.Owed && r.Owed <= mostOwed &&
		!strings.ContainsFunc(r.Token, unprintable) &&
		(r.Cooldown == nil || 0 <= r.Cooldown.Step && r.Cooldown.Step < mostCounted)
}

// unprintable finds what no token has, and what could break out of a query.
func unprintable(c rune) bool { return c <= ' ' || c >= 0x7f }
