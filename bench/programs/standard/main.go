// Program standard is program bare with those parts of the standard library that
// wxtoken needs and bare does not: what it weighs more than bare is not wxtoken's
// own code.
package main

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptrace"
	"time"

	"github.com/wxtoken/wxtoken/bench/programs/fetch"
)

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GetConn: func(string) {}})
	if t, ok := http.DefaultTransport.(*http.Transport); ok {
		http.DefaultClient.Transport = t.Clone()
	}
	length, lifetime, err := fetch.Token(ctx)
	var timeout interface{ Timeout() bool }
	if errors.As(errors.Join(err, ctx.Err()), &timeout) {
		fmt.Println("too late", slog.StringValue(rand.Text()))
	}
	text, err := json.Marshal([]int{length, lifetime})
	if err != nil {
		fmt.Println(err)
		return
	}
	block, err := aes.NewCipher(make([]byte, 32))
	if err != nil {
		fmt.Println(err)
		return
	}
	sealer, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(sealer.Open(nil, nil, sealer.Seal(nil, nil, text, nil), nil))
}
