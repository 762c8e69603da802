package wxtoken

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/wxtoken/wxtoken/internal/errcode"
)

func TestAPIError(t *testing.T) {
	known := []int{-1, -1000, 40001, 40002, 40013, 40014, 40125, 40164, 40243, 41001, 41002, 41004, 42001, 42007, 43002,
		45009, 45011, 50004, 50007, 61004, 61024, 89501, 89503, 89506, 89507}
	for _, code := range known {
		assert.NotEmpty(t, errcode.Advice(code), code)
	}
	assert.Equal(t, "wxtoken: platform answered errcode 7: what rid: 1", (&APIError{7, "what rid: 1"}).Error())
	assert.Equal(t, "wxtoken: platform answered errcode 40013 (check the appID)", (&APIError{Code: 40013}).Error())
	var temporary, rejected []int
	for _, code := range known {
		if (&APIError{Code: code}).Temporary() {
			temporary = append(temporary, code)
		}
		if IsTokenRejected(code) {
			rejected = append(rejected, code)
		}
	}
	assert.Equal(t, []int{-1, -1000, 45011}, temporary)
	assert.Equal(t, []int{40001, 40014, 42001}, rejected)
}

func TestCooldownError(t *testing.T) {
	refused := &APIError{Code: 40125, Message: "invalid appsecret"}
	err := error(&CooldownError{Until: time.Date(2026, 5, 1, 8, 0, 0, 0, time.FixedZone("", 8*3600)), Err: refused})
	assert.Equal(t, refused.Error()+" (not asked again before 2026-05-01T00:00:00Z)", err.Error())
	assert.ErrorIs(t, err, refused)
}
