package protocol

import (
	"crypto/aes"
	"crypto/cipher"
)

// A Sealer encrypts records with AES-256-GCM, bound to the cache key so that a
// record copied to another app's key does not open there.
type Sealer struct {
	Keys     [][32]byte // the first seals, every one opens; none: records are plain
	CacheKey string
	Plain    bool // with Keys, plain records are read too
}

func (s Sealer) seal(plain []byte) []byte {
	return gcm(s.Keys[0]).Seal(nil, nil, plain, []byte(s.CacheKey))
}

// open returns ErrCorrupt where nothing is sealed, such as null.
func (s Sealer) open(sealed []byte) ([]byte, error) {
	if len(sealed) == 0 {
		return nil, ErrCorrupt
	}
	for _, key := range s.Keys {
		if plain, err := gcm(key).Open(nil, nil, sealed, []byte(s.CacheKey)); err == nil {
			return plain, nil
		}
	}
	return nil, ErrNoKey
}

// gcm puts a random nonce before each ciphertext by itself.
func gcm(key [32]byte) cipher.AEAD {
	block, _ := aes.NewCipher(key[:])              // of 32 bytes: cannot fail
	aead, _ := cipher.NewGCMWithRandomNonce(block) // nor with AES
	return aead
}
