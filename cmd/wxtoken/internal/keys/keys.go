// Package keys reads the keys of wxtoken.WithEncryption.
package keys

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"
)

var errForm = errors.New("a key has 32 bytes, as 64 hexadecimal digits or base64: make one with: openssl rand -hex 32")

// Parse reads one key. The error does not show it.
func Parse(text string) (key [32]byte, err error) {
	raw, err := hex.DecodeString(text)
	for _, encoding := range []*base64.Encoding{base64.StdEncoding, base64.RawStdEncoding, base64.URLEncoding, base64.RawURLEncoding} {
		if err != nil || len(raw) != len(key) {
			raw, err = encoding.DecodeString(text)
		}
	}
	if err != nil || len(raw) != len(key) {
		return key, errForm
	}
	copy(key[:], raw)
	if key == ([32]byte{}) {
		return key, errors.New("a key of zeros is not allowed: make one with: openssl rand -hex 32")
	}
	return key, nil
}

// ReadFile reads a file with one key on each line. Empty lines and lines that begin
// with # are skipped.
func ReadFile(path string) (all [][32]byte, err error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("wxtoken: give -key-file a file that can be read: %w", err)
	}
	for i, line := range strings.Split(string(text), "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		key, err := Parse(line)
		if err != nil {
			return nil, fmt.Errorf("wxtoken: %s, line %d: %w", path, i+1, err)
		}
		all = append(all, key)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("wxtoken: %s has no key in it", path)
	}
	return all, nil
}
