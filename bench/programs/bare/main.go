// Program bare is what a program that has an HTTP client weighs without a
// library.
package main

import (
	"context"
	"fmt"
	"time"

	"github.com/wxtoken/wxtoken/bench/programs/fetch"
)

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	fmt.Println(fetch.Token(ctx))
}
