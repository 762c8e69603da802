// Program redis keeps a token with wxtoken, in Redis.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/redis/go-redis/v9"

	"github.com/wxtoken/wxtoken"
)

func main() {
	rdb := redis.NewClient(&redis.Options{Addr: os.Getenv("REDIS"), ContextTimeoutEnabled: true})
	src := wxtoken.New(wxtoken.NewFetcher(os.Getenv("APPID"), os.Getenv("SECRET")), wxtoken.NewRedisCache(rdb))
	tok, err := src.Token(context.Background())
	fmt.Println(tok, err)
}
