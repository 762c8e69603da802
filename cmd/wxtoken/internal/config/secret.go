package config

import (
	"errors"
	"fmt"
	"math"
	"strings"
)

// shortest is the length of a client's secret below which it can be guessed.
const shortest = 16

// guessable are words and keyboard rows that add no strength to a secret.
var guessable = []string{
	"password", "passwd", "secret", "changeme", "change-me", "example", "default", "wxtoken", "wechat", "weixin", "tencent",
	"access", "client", "service", "server", "token", "admin", "login", "demo", "test", "prod", "shop",
	"qwertyuiop", "asdfghjkl", "zxcvbnm", "qwerty", "asdf",
}

// CheckSecret rejects a secret that can be guessed, since clients on any machine may
// try. It discounts words, repeats and sequences such as 1234.
func CheckSecret(secret string) error {
	const how = "make one with: openssl rand -hex 32"
	switch {
	case len(secret) < shortest:
		return fmt.Errorf("has under %d characters: %s", shortest, how)
	case strings.ContainsFunc(secret, func(r rune) bool { return r <= ' ' || r >= 0x7f }):
		return errors.New("has a blank, a control character or one that is not ASCII: " + how)
	case strength(secret) < 40:
		return errors.New("can be guessed: it consists of words, repeats or sequences: " + how)
	}
	return nil
}

// strength estimates a secret's entropy in bits: each character that does not follow
// from the ones before it counts as many as its alphabet has.
func strength(secret string) float64 {
	rest := strings.ToLower(secret)
	for _, word := range guessable {
		rest = strings.ReplaceAll(rest, word, "")
	}
	news := 0
	for i := range len(rest) {
		switch {
		case i > 0 && max(rest[i], rest[i-1])-min(rest[i], rest[i-1]) <= 1: // aaa, abc, 321
		case i > 2 && strings.Contains(rest[:i], rest[i-2:i+1]): // repeats an earlier part
		default:
			news++
		}
	}
	return float64(news) * math.Log2(alphabet(secret))
}

// alphabet returns how many characters there were to choose from.
func alphabet(secret string) float64 {
	const digits, lower = "0123456789", "abcdefghijklmnopqrstuvwxyz"
	size := 0
	for _, set := range []string{digits, lower, strings.ToUpper(lower)} {
		if strings.ContainsAny(secret, set) {
			size += len(set)
		}
	}
	if strings.Trim(strings.ToLower(secret), "0123456789abcdef") == "" {
		return float64(min(size, 16))
	}
	return float64(max(size, 2))
}
