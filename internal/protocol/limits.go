package protocol

import (
	"strings"
	"time"
	"unicode"
)

// The limits of what comes from the platform or from the store. A record beyond
// them was not written by this protocol: it is corrupt, and is overwritten.
const (
	maxRecord   = 16 << 10             // bytes of a plain record
	maxSealed   = maxRecord*4/3 + 1024 // bytes of a sealed one, in base64
	maxToken    = 4 << 10              // bytes, printable ASCII
	maxName     = 128                  // bytes of an epoch, lease, id or scope, printable ASCII and spaces
	maxMessage  = 512                  // characters of an errmsg
	MaxLifetime = 30 * 24 * time.Hour  // of a token; the platform says at most 2 h
	maxLease    = 5 * time.Minute      // and the life up to which a process is brief
	maxOwed     = 3
	maxBefore   = 3         // members of a cooldown besides the latest
	maxCount    = 1 << 30   // of what is counted; no life is long enough for it
	maxSeq      = 1<<53 - 1 // what every language's numbers can hold
)

// limit keeps r, which follows one that was as large as can be, within the limits:
// else no process could read it.
func (r *Record) limit() {
	r.Seq, r.Early = min(r.Seq, maxSeq), min(r.Early, maxCount-1)
}

// oneMore is a count after one more.
func oneMore(n int) int { return min(n+1, maxCount-1) }

// printable reports whether s is what goes into a query as it is: no spaces, no
// control bytes, nothing beyond ASCII.
func printable(s string, most int) bool {
	return len(s) <= most && !strings.ContainsFunc(s, func(c rune) bool { return c <= ' ' || c >= 0x7f })
}

func isName(s string) bool { return printable(strings.ReplaceAll(s, " ", "_"), maxName) }

// CleanMessage returns an errmsg that is safe in a record, a log and a terminal:
// at most 512 characters, on one line, without control and format characters.
func CleanMessage(s string) string {
	if len(s) > 4*maxMessage {
		s = s[:4*maxMessage]
	}
	var b strings.Builder
	n := 0
	for _, c := range strings.ToValidUTF8(s, "") {
		if unicode.In(c, unicode.Cc, unicode.Zl, unicode.Zp) {
			c = ' '
		}
		if unicode.Is(unicode.Cf, c) { // text direction and other invisible marks
			continue
		}
		if n++; n > maxMessage {
			break
		}
		b.WriteRune(c)
	}
	return b.String()
}
