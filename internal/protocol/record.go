package protocol

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"time"
)

// recordVersion goes up when a reader of the version before would misread.
const recordVersion = 1

// A Record is the only state that the processes sharing a credential share: the
// latest token, and the lease of the fetch under way. It is changed only by
// compare-and-swap. docs/design.md describes it for readers in any language.
type Record struct {
	Version   int       `json:"v"`
	Epoch     string    `json:"epoch"`                // random, made with the record; tells it from one that was lost
	Seq       int64     `json:"seq"`                  // one more with each token and doubt
	Token     string    `json:"token,omitempty"`      // empty before the first fetch
	IssuedAt  int64     `json:"issued_at,omitempty"`  // unix ms, from before the request was sent
	ExpiresAt int64     `json:"expires_at,omitempty"` // unix ms
	Past      string    `json:"past,omitempty"`       // ids of the tokens before this one, latest first, at most six
	Lease     string    `json:"lease,omitempty"`      // of the fetch under way: the process's id, a dot, a nonce; of a brief process, also a dot and its member, if that is not vague
	LeaseFor  int64     `json:"lease_for,omitempty"`  // how long that lease lasts, ms; 0: version 0.1 wrote it
	Noted     bool      `json:"noted,omitempty"`      // the store drops the record soon after that lease
	Owed      int       `json:"owed,omitempty"`       // fetches until the token is known to be the latest
	Rejected  bool      `json:"rejected,omitempty"`   // an API rejected the token
	Doubted   bool      `json:"doubted,omitempty"`    // a fetch was owed when it did: that was no mistake
	Early     int       `json:"early,omitempty"`      // tokens in a row that were rejected before their time
	Cooldown  *Cooldown `json:"cooldown,omitempty"`   // the last fetch failed
	Seen      int64     `json:"seen,omitempty"`       // unix ms by the clock of a process by which the token or the cooldown is from the future: when it saw them
}

func (r Record) issued() time.Time                { return time.UnixMilli(r.IssuedAt) }
func (r Record) seen() time.Time                  { return time.UnixMilli(r.Seen) }
func (r Record) expires() time.Time               { return time.UnixMilli(r.ExpiresAt) }
func (r Record) life() time.Duration              { return r.expires().Sub(r.issued()) }
func (r Record) left(now time.Time) time.Duration { return r.expires().Sub(now) }
func (r Record) expired(now time.Time) bool       { return r.ExpiresAt <= now.UnixMilli() }

// usable reports whether r's token can be handed to a caller.
func (r Record) usable(now time.Time) bool {
	return r.Token != "" && !r.Rejected && !r.expired(now)
}

// sameIssue reports whether r and other have the same token from the same fetch.
func (r Record) sameIssue(other Record) bool {
	return r.Token == other.Token && r.IssuedAt == other.IssuedAt
}

// fromFuture reports whether r's token is issued later than now by any clock that is
// about right: the clock of the process that fetched it was ahead.
func (r Record) fromFuture(now time.Time) bool { return r.issued().Sub(now) > clockError }

// seenBy reports whether a process has seen r's token and cooldown before now.
func (r Record) seenBy(now time.Time) bool { return 0 < r.Seen && !r.seen().After(now) }

// unleased is r without a lease.
func (r Record) unleased() Record {
	r.Lease, r.LeaseFor, r.Noted = "", 0, false
	return r
}

// tokenID names a token in Past, and gives nothing of it away.
func tokenID(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:5])
}

const (
	pastTokens = 6
	idLength   = 2 * 5
)

// follows reports whether token is among the last six before r's.
func (r Record) follows(token string) bool {
	return token != "" && r.Past != "" && strings.Contains(r.Past, tokenID(token))
}

// pastAfter is Past for the token that follows r's.
func (r Record) pastAfter() string {
	if r.Token == "" {
		return r.Past
	}
	past := strings.TrimSpace(tokenID(r.Token) + " " + r.Past)
	return past[:min(len(past), pastTokens*(idLength+1)-1)]
}

// debt is what remains of r without its token: what is owed, if anything.
func (r Record) debt() Record {
	if r.Owed == 0 {
		return Record{}
	}
	return Record{Epoch: r.Epoch, Seq: r.Seq, Owed: r.Owed}
}

// fetchesAfter is how many fetches r's token came after token, as far as Past tells.
func (r Record) fetchesAfter(token string) int {
	if !r.follows(token) {
		return 0
	}
	return strings.Index(r.Past, tokenID(token))/(idLength+1) + 1
}

// pastCount is the number of tokens in Past.
func (r Record) pastCount() int64 { return int64((len(r.Past) + 1) / (idLength + 1)) }

var (
	ErrCorrupt = errors.New("wxtoken: the value in the cache is not a wxtoken record; it is overwritten")
	ErrNewer   = errors.New("wxtoken: the record in the cache was written by a newer wxtoken; upgrade this process, or give it a WithKeyPrefix of its own")
	ErrNoKey   = errors.New("wxtoken: the record in the cache is sealed and no key of this process opens it; give WithEncryption the key that sealed it")
	ErrPlain   = errors.New("wxtoken: the record in the cache is not sealed, and this process has WithEncryption; give WithEncryption to every process, and WithPlainRecords while encryption is being switched on")
)

// Encode returns the bytes for the cache, sealed if there is a key.
func Encode(r Record, seal Sealer) []byte {
	r.Version = recordVersion
	raw, _ := json.Marshal(r) // of strings and numbers: cannot fail
	if len(seal.Keys) > 0 {
		raw, _ = json.Marshal(envelope{Version: recordVersion, Sealed: seal.seal(raw)})
	}
	return raw
}

// Decode returns ErrCorrupt for what may be overwritten, and ErrNewer, ErrNoKey
// or ErrPlain for what must not be.
func Decode(raw []byte, seal Sealer) (Record, error) {
	var value struct {
		Record
		Sealed json.RawMessage `json:"sealed"`
	}
	if len(raw) > maxSealed {
		return Record{}, oversized(raw)
	}
	err := json.Unmarshal(raw, &value) // reads the version also if other fields have types of a newer one
	if value.Version > recordVersion {
		return Record{}, ErrNewer
	}
	r, plain := value.Record, len(value.Sealed) == 0
	if value.Version == recordVersion && !plain {
		var box []byte
		if json.Unmarshal(value.Sealed, &box) != nil {
			return Record{}, ErrCorrupt
		}
		if raw, err = seal.open(box); err != nil {
			return Record{}, err
		}
		r = Record{}
		err = json.Unmarshal(raw, &r)
	}
	if err != nil || len(raw) > maxRecord || !r.sane() {
		return Record{}, ErrCorrupt
	}
	if r.Cooldown != nil { // version 0.1 wrote it as the platform sent it
		r.Cooldown.Message = CleanMessage(r.Cooldown.Message)
	}
	if plain && len(seal.Keys) > 0 && !seal.Plain {
		return Record{}, ErrPlain
	}
	return r, nil
}

// oversized returns ErrNewer for a value of a newer version, which may be larger
// than those of this one, else ErrCorrupt. Every version writes its number first, so
// that a value of any size need not be parsed.
func oversized(raw []byte) error {
	rest, ours := strings.CutPrefix(string(raw[:32]), `{"v":`)
	rest = strings.TrimLeft(rest, " ")
	digits := rest[:len(rest)-len(strings.TrimLeft(rest, "0123456789"))]
	if version, err := strconv.Atoi(digits); ours && err == nil && version > recordVersion {
		return ErrNewer
	}
	return ErrCorrupt
}

// CanHold reports whether a record can hold token.
func CanHold(token string) bool { return token != "" && printable(token, maxToken) }

// sane reports whether this protocol can have written r. It looks at no clock: a
// process whose clock is wrong must not take a good record for a corrupt one.
func (r Record) sane() bool {
	c := r.Cooldown
	return r.Version == recordVersion &&
		r.Epoch != "" && isName(r.Epoch) && 0 <= r.Seq && r.Seq <= maxSeq &&
		printable(r.Token, maxToken) && 0 <= r.IssuedAt && r.IssuedAt <= r.ExpiresAt && r.ExpiresAt-r.IssuedAt <= MaxLifetime.Milliseconds() &&
		isName(r.Lease) && 0 <= r.LeaseFor && r.LeaseFor < maxCount &&
		len(r.Past) < pastTokens*(idLength+1) && isName(r.Past) &&
		0 <= r.Owed && r.Owed <= maxOwed && 0 <= r.Early && r.Early < maxCount && 0 <= r.Seen &&
		(c == nil || 0 <= c.Step && c.Step < maxCount && isName(c.Scope) && isName(c.By) && 0 <= c.Row && c.Row < maxCount && isName(c.Member) && isName(c.Before))
}
