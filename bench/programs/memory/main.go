// Program memory keeps a token with wxtoken, in memory.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/wxtoken/wxtoken"
)

func main() {
	src := wxtoken.New(wxtoken.NewFetcher(os.Getenv("APPID"), os.Getenv("SECRET")), wxtoken.NewMemoryCache())
	tok, err := src.Token(context.Background())
	fmt.Println(tok, err)
}
