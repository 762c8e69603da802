package rueidiscache_test

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/redis/rueidis"

	"github.com/wxtoken/wxtoken"
	"github.com/wxtoken/wxtoken/stores/rueidiscache"
)

// ConnWriteTimeout is how long rueidis waits for a server that hangs. Keep it under
// the 2 s that a cache call may take.
func Example() {
	option, err := rueidis.ParseURL(os.Getenv("REDIS_URL")) // redis://user:password@redis.internal:6379/0
	if err != nil {
		fmt.Println(err)
		return
	}
	option.ConnWriteTimeout = time.Second
	client, err := rueidis.NewClient(option)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.Close()

	src := wxtoken.New(wxtoken.NewFetcher("wx0123456789abcdef", os.Getenv("WX_SECRET")), rueidiscache.New(client))
	tok, err := src.Token(context.Background())
	fmt.Println(tok, err)
}
