// Program fastwego keeps a token with fastwego/offiaccount, in a file.
package main

import (
	"fmt"
	"os"

	"github.com/fastwego/offiaccount"
)

func main() {
	app := offiaccount.New(offiaccount.Config{Appid: os.Getenv("APPID"), Secret: os.Getenv("SECRET")})
	tok, err := offiaccount.GetAccessToken(app)
	fmt.Println(len(tok), err)
}
