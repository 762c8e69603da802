package wxtoken

import (
	"encoding/json"
	"errors"
	"time"

	"github.com/wxtoken/wxtoken/internal/endpoint"
)

// recordVersion goes up when a reader of the version before would misread.
const recordVersion = 1

// mostOwed is the largest doubt that the protocol can leave in a record.
const mostOwed = 3

// A record is all that the processes sharing a credential agree on: the latest
// token, and the lease of the fetch under way. It is changed only by
// compare-and-swap. docs/protocol.md describes it for readers in any language.
type record struct {
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
	Cooldown  *cooldown `json:"cooldown,omitempty"`   // the last fetch failed
}

// A cooldown says that the platform is not to be asked before Until.
type cooldown struct {
	Until   int64  `json:"until"`             // unix ms
	Code    int    `json:"code"`              // errcode; 0 if there was no answer to understand
	Message string `json:"message,omitempty"` // errmsg
	Scope   string `json:"scope,omitempty"`   // fingerprint of the one secret concerned; empty: all
	Step    int    `json:"step,omitempty"`    // failures in a row before this one
}

func (r record) expired(now time.Time) bool { return r.ExpiresAt <= now.UnixMilli() }

// usable reports whether r's token can be given to a caller.
func (r record) usable(now time.Time) bool {
	return r.Token != "" && !r.Rejected && !r.expired(now)
}

func (r record) token() Token {
	return Token{Value: r.Token, ExpiresAt: time.UnixMilli(r.ExpiresAt)}
}

func (r record) left(now time.Time) time.Duration {
	return time.UnixMilli(r.ExpiresAt).Sub(now)
}

// ttl keeps the record for an hour past all that it speaks of, since a doubt or
// a growing cooldown outlives the token. Losing one that speaks of more than a
// year does no harm.
func (r record) ttl(now time.Time) time.Duration {
	last := max(r.ExpiresAt, now.UnixMilli())
	if r.Cooldown != nil {
		last = max(last, r.Cooldown.Until)
	}
	return min(time.UnixMilli(last).Sub(now), 365*24*time.Hour) + time.Hour
}

var (
	errGarbage = errors.New("wxtoken: the value in the cache is no record; it is replaced")
	errNewer   = errors.New("wxtoken: the record in the cache was written by a newer wxtoken; upgrade this process, or give it a WithKeyPrefix of its own")
	errNoKey   = errors.New("wxtoken: the record in the cache is sealed and no key of this process opens it; give WithEncryption the key that sealed it")
)

// sealedRecord is how an encrypted record looks in the cache.
type sealedRecord struct {
	Version int    `json:"v"`
	Sealed  []byte `json:"sealed"` // base64 of nonce and AES-256-GCM ciphertext of the plain record
}

// encode gives the bytes for the cache, sealed if there is a key.
func encode(r record, seal sealer) ([]byte, error) {
	r.Version = recordVersion
	plain, err := json.Marshal(r)
	if err != nil || len(seal.keys) == 0 {
		return plain, err
	}
	return json.Marshal(sealedRecord{recordVersion, seal.seal(plain)})
}

// decode returns errGarbage for what may be overwritten, and errNewer or
// errNoKey for what must not be.
func decode(raw []byte, seal sealer) (record, error) {
	var head struct {
		Version int             `json:"v"`
		Sealed  json.RawMessage `json:"sealed"`
	}
	if json.Unmarshal(raw, &head) != nil || head.Version < 1 {
		return record{}, errGarbage
	}
	if head.Version > recordVersion {
		return record{}, errNewer
	}
	if head.Sealed != nil {
		var box []byte
		if json.Unmarshal(head.Sealed, &box) != nil {
			return record{}, errGarbage
		}
		plain, err := seal.open(box)
		if err != nil {
			return record{}, err
		}
		raw = plain
	}
	var r record
	if json.Unmarshal(raw, &r) != nil || !r.sane() {
		return record{}, errGarbage
	}
	return r, nil
}

// sane refuses what this protocol cannot have written.
func (r record) sane() bool {
	return r.Version == recordVersion && r.Epoch != "" && 0 <= r.Seq && r.Seq < 1<<53 && r.Early >= 0 &&
		0 <= r.Owed && r.Owed <= mostOwed && endpoint.Printable(r.Token) &&
		(r.Cooldown == nil || r.Cooldown.Step >= 0)
}
