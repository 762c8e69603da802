// Package msgcrypt implements the message encryption of the WeChat platform (消息加解密):
// AES-256-CBC with a key of 43 characters, and a SHA-1 signature with a shared token.
package msgcrypt

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha1"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
)

const (
	keyLength = 43 // characters of an EncodingAESKey
	padTo     = 32 // PKCS#7 over this many bytes, twice the cipher's block
	head      = 20 // 16 random bytes, and the message's length in 4
)

// A Box signs, encrypts and decrypts. It has the keys, so nothing in it is exported
// and none of its errors shows them.
type Box struct {
	token string
	key   []byte
	block cipher.Block
}

// New returns a Box with the token and key of the platform's console. An empty token
// would let anyone sign, so it is an error, as is an invalid key.
func New(token, encodingAESKey string) (*Box, error) {
	if token == "" {
		return nil, errors.New("the message token is empty")
	}
	key, err := base64.StdEncoding.DecodeString(encodingAESKey + "=")
	if err != nil || len(encodingAESKey) != keyLength || len(key) != 32 {
		return nil, errors.New("the EncodingAESKey is not 43 characters of A-Z, a-z and 0-9")
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return &Box{token, key, block}, nil
}

// Sign returns the msg_signature of an encrypted message.
func (b *Box) Sign(timestamp, nonce, encrypted string) string {
	parts := []string{b.token, timestamp, nonce, encrypted}
	slices.Sort(parts)
	sum := sha1.Sum([]byte(strings.Join(parts, "")))
	return hex.EncodeToString(sum[:])
}

// Signed reports whether signature is the result of Sign, in constant time.
func (b *Box) Signed(signature, timestamp, nonce, encrypted string) bool {
	return subtle.ConstantTimeCompare([]byte(signature), []byte(b.Sign(timestamp, nonce, encrypted))) == 1
}

// Encrypt encrypts message for the receiver appID. It does not sign.
func (b *Box) Encrypt(message []byte, appID string) string {
	random := make([]byte, 16)
	_, _ = rand.Read(random) // never fails
	return b.encrypt(random, message, appID)
}

func (b *Box) encrypt(random, message []byte, appID string) string {
	plain := append([]byte{}, random...)
	plain = binary.BigEndian.AppendUint32(plain, uint32(len(message)))
	plain = append(plain, message...)
	plain = append(plain, appID...)
	pad := padTo - len(plain)%padTo
	plain = append(plain, bytes.Repeat([]byte{byte(pad)}, pad)...)
	cipher.NewCBCEncrypter(b.block, b.key[:aes.BlockSize]).CryptBlocks(plain, plain)
	return base64.StdEncoding.EncodeToString(plain)
}

// Decrypt decrypts the result of Encrypt, and returns the receiver that it names.
// Verify the signature first: AES-CBC alone does not reveal that a message was
// changed.
func (b *Box) Decrypt(encrypted string) (message []byte, appID string, err error) {
	text, err := base64.StdEncoding.DecodeString(encrypted)
	if err != nil {
		return nil, "", errors.New("not in base64")
	}
	if len(text) == 0 || len(text)%aes.BlockSize != 0 {
		return nil, "", errors.New("not whole blocks of AES")
	}
	cipher.NewCBCDecrypter(b.block, b.key[:aes.BlockSize]).CryptBlocks(text, text)
	pad := int(text[len(text)-1])
	if pad < 1 || pad > padTo || pad > len(text) || !bytes.Equal(text[len(text)-pad:], bytes.Repeat([]byte{byte(pad)}, pad)) {
		return nil, "", errors.New("not padded as PKCS#7: encrypted with another EncodingAESKey?")
	}
	text = text[:len(text)-pad]
	if len(text) < head {
		return nil, "", errors.New("too short")
	}
	length := binary.BigEndian.Uint32(text[head-4 : head])
	if uint64(length) > uint64(len(text)-head) {
		return nil, "", errors.New("its length is beyond its end: encrypted with another EncodingAESKey?")
	}
	return text[head : head+length], string(text[head+length:]), nil
}
