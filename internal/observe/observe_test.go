package observe_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/wxtoken/wxtoken"
	"github.com/wxtoken/wxtoken/internal/observe"
)

func TestResultSaysWhoHasToAct(t *testing.T) {
	for code, want := range map[int]string{
		-1: observe.Busy, 45011: observe.Busy, 40125: observe.Secret, 40164: observe.IP,
		45009: observe.Quota, 40013: observe.Denied, 99999: observe.Denied,
	} {
		err := fmt.Errorf("wrapped: %w", &wxtoken.APIError{Code: code})
		assert.Equal(t, want, observe.Result(err), code)
		assert.Contains(t, observe.Results(), want)
	}
	assert.Equal(t, observe.OK, observe.Result(nil))
	assert.Equal(t, observe.Failed, observe.Result(errors.New("connection reset")))
}
