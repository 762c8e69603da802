package wxtoken

import (
	"crypto/aes"
	"crypto/cipher"
)

// A sealer encrypts records with AES-256-GCM, bound to the cache key so that a
// record copied to another app's key does not open there.
type sealer struct {
	keys     [][32]byte // the first seals, every one opens; none: records are plain
	cacheKey string
}

func (s sealer) seal(plain []byte) []byte {
	return gcm(s.keys[0]).Seal(nil, nil, plain, []byte(s.cacheKey))
}

func (s sealer) open(sealed []byte) ([]byte, error) {
	for _, key := range s.keys {
		if plain, err := gcm(key).Open(nil, nil, sealed, []byte(s.cacheKey)); err == nil {
			return plain, nil
		}
	}
	return nil, errNoKey
}

// gcm puts a random nonce before each ciphertext by itself.
func gcm(key [32]byte) cipher.AEAD {
	block, err := aes.NewCipher(key[:])
	if err != nil {
		panic(err) // only a key of the wrong length fails
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic(err) // only another block size fails
	}
	return aead
}
