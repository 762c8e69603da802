// Program weapp keeps a token with medivhzhan/weapp, in memory.
package main

import (
	"fmt"
	"os"

	"github.com/medivhzhan/weapp/v3"
)

func main() {
	tok, err := weapp.NewClient(os.Getenv("APPID"), os.Getenv("SECRET")).AccessToken()
	fmt.Println(len(tok), err)
}
