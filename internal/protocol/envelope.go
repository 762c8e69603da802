package protocol

import "encoding/json"

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
	e := envelope{Version: 1, Value: raw}
	if len(s.Keys) > 0 {
		e = envelope{Version: 1, Sealed: s.seal(raw)}
	}
	return json.Marshal(e)
}

// Unwrap reads what Wrap wrote. It returns ErrCorrupt for what may be
// overwritten, and ErrNewer, ErrNoKey or ErrPlain for what must not be.
func (s Sealer) Unwrap(raw []byte, value any) error {
	var e struct {
		envelope
		Sealed json.RawMessage `json:"sealed"` // a newer version may put anything there
	}
	if len(raw) > maxEnvelope {
		return oversized(raw)
	}
	if json.Unmarshal(raw, &e) != nil || e.Version < 1 {
		return ErrCorrupt
	}
	if e.Version > 1 {
		return ErrNewer
	}
	if e.Sealed != nil {
		if json.Unmarshal(e.Sealed, &e.envelope.Sealed) != nil {
			return ErrCorrupt
		}
		opened, err := s.open(e.envelope.Sealed)
		if err != nil {
			return err
		}
		e.Value = opened
	} else if len(s.Keys) > 0 && !s.Plain {
		return ErrPlain
	}
	if json.Unmarshal(e.Value, value) != nil {
		return ErrCorrupt
	}
	return nil
}
