// Program standard has what of the standard library wxtoken needs, and nothing
// else: what wxtoken's programs weigh more than it is not the standard library.
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
	"net/url"
	"os"
)

func main() {
	ctx := httptrace.WithClientTrace(context.Background(), &httptrace.ClientTrace{GetConn: func(string) {}})
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://api.weixin.qq.com/cgi-bin/token?"+url.Values{"appid": {os.Getenv("APPID")}}.Encode(), nil)
	block, blockErr := aes.NewCipher(make([]byte, 32))
	sealer, sealerErr := cipher.NewGCMWithRandomNonce(block)
	transport, _ := http.DefaultTransport.(*http.Transport)
	resp, sendErr := (&http.Client{Transport: transport.Clone()}).Do(req)
	if err = errors.Join(err, blockErr, sealerErr, sendErr); err != nil {
		var timeout interface{ Timeout() bool }
		fmt.Println("no answer", errors.As(err, &timeout), slog.StringValue(rand.Text()))
		return
	}
	defer resp.Body.Close()
	var answer []int
	err = json.NewDecoder(resp.Body).Decode(&answer)
	text, textErr := json.Marshal(answer)
	fmt.Println(errors.Join(err, textErr), sealer.Seal(nil, nil, text, nil))
	fmt.Println(sealer.Open(nil, nil, text, nil))
}
