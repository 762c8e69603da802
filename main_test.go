package wxtoken_test

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if config := os.Getenv(workerEnv); config != "" {
		work(config)
		return
	}
	goleak.VerifyTestMain(m)
}
