// Program silenceper keeps a token with silenceper/wechat, in memory.
package main

import (
	"fmt"
	"os"

	"github.com/silenceper/wechat/v2/cache"
	"github.com/silenceper/wechat/v2/credential"
)

func main() {
	src := credential.NewDefaultAccessToken(os.Getenv("APPID"), os.Getenv("SECRET"), "app", cache.NewMemory())
	tok, err := src.GetAccessToken()
	fmt.Println(len(tok), err)
}
