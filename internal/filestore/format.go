package filestore

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"time"
)

// fileName returns the name of key's file: the key itself, with every byte but a-z,
// 0-9, '_' and '-' as %xx, so that keys that differ only in case, or in Unicode
// composition, have different files everywhere, and no key has the lock of another as
// its file. The prefix avoids names that a system reserves; a key that would be too
// long for a file system is hashed.
func fileName(key string) string {
	var b strings.Builder
	b.WriteString("key-")
	for i := range len(key) {
		switch c := key[i]; {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '_', c == '-':
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "%%%02x", c)
		}
	}
	if b.Len() > 200 {
		sum := sha256.Sum256([]byte(key))
		return "sha256-" + hex.EncodeToString(sum[:])
	}
	return b.String()
}

// A file is a line with the version, the expiry (unix time in ns) and the checksum of
// everything else; the key; and the value:
//
//	wxtoken 1 1795000000000000000 SHA-256
//	wxtoken:token:wx0123456789abcdef
//	{"v":1,...
//
// encode returns it, and decode its contents. A file that is truncated, changed or of
// another key is invalid.
func encode(key string, value []byte, expires time.Time) []byte {
	rest := append([]byte(key+"\n"), value...)
	sum := sha256.Sum256(fmt.Appendf(nil, "%d %s", expires.UnixNano(), rest))
	return append(fmt.Appendf(nil, "wxtoken 1 %d %x\n", expires.UnixNano(), sum), rest...)
}

func decode(file []byte, key string) (value []byte, expires time.Time, whole bool) {
	header, rest, _ := bytes.Cut(file, []byte("\n"))
	var nano int64
	if _, err := fmt.Sscanf(string(header[:min(len(header), 40)]), "wxtoken 1 %d ", &nano); err != nil {
		return nil, time.Time{}, false
	}
	expires = time.Unix(0, nano)
	value, ours := bytes.CutPrefix(rest, []byte(key+"\n"))
	return value, expires, ours && bytes.Equal(file, encode(key, value, expires))
}
