package protocol

import (
	"encoding/json"
	"strconv"
	"strings"
)

// maxEnvelope is the largest value that Unwrap reads, in bytes.
const maxEnvelope = 16 << 10

// An envelope is how a sealed Record looks in the cache, and any value of another kind.
type envelope struct {
	Version int             `json:"v"`
	Sealed  []byte          `json:"sealed,omitempty"` // base64 of nonce and AES-256-GCM ciphertext of the plain value
	Value   json.RawMessage `json:"value,omitempty"`
}

// Wrap returns the bytes for the cache of a value of another kind than Record:
// plain, or sealed for its key as records are.
func (s Sealer) Wrap(value any) ([]byte, error) {
	raw, err := json.Marshal(value)
	if err != nil {
		return nil, err
	}
	e := envelope{Version: recordVersion, Value: raw}
	if len(s.Keys) > 0 {
		e = envelope{Version: recordVersion, Sealed: s.seal(raw)}
	}
	return json.Marshal(e)
}

// Unwrap reads what Wrap wrote. It returns ErrCorrupt for what may be
// overwritten, and ErrNewer, ErrNoKey or ErrPlain for what must not be.
func (s Sealer) Unwrap(raw []byte, value any) error {
	raw, sealed, err := s.unseal(raw, maxEnvelope)
	switch {
	case err != nil:
		return err
	case !sealed && s.needed():
		return ErrPlain
	case !sealed:
		var e envelope
		if json.Unmarshal(raw, &e) != nil {
			return ErrCorrupt
		}
		raw = e.Value
	}
	if json.Unmarshal(raw, value) != nil {
		return ErrCorrupt
	}
	return nil
}

// unseal returns what is sealed in raw, which is no longer than most, or raw itself if
// it is plain.
func (s Sealer) unseal(raw []byte, most int) (plain []byte, sealed bool, err error) {
	var e struct {
		Version int             `json:"v"`
		Sealed  json.RawMessage `json:"sealed"` // a newer version may put anything there
	}
	switch {
	case len(raw) > most:
		return nil, false, oversized(raw)
	case json.Unmarshal(raw, &e) != nil || e.Version < 1:
		return nil, false, ErrCorrupt
	case e.Version > recordVersion:
		return nil, false, ErrNewer
	case e.Sealed == nil:
		return raw, false, nil
	}
	var box []byte
	if json.Unmarshal(e.Sealed, &box) != nil {
		return nil, true, ErrCorrupt
	}
	plain, err = s.open(box)
	return plain, true, err
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
