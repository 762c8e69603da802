package etcdcache_test

import (
	"context"
	"fmt"
	"os"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/wxtoken/wxtoken"
	"github.com/wxtoken/wxtoken/stores/etcdcache"
)

func Example() {
	client, err := clientv3.New(clientv3.Config{
		Endpoints:   []string{"10.0.0.1:2379", "10.0.0.2:2379", "10.0.0.3:2379"},
		DialTimeout: time.Second,
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.Close()

	src := wxtoken.New(wxtoken.NewFetcher("wx0123456789abcdef", os.Getenv("WX_SECRET")), etcdcache.New(client))
	tok, err := src.Token(context.Background())
	fmt.Println(tok, err)
}
