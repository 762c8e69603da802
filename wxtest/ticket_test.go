package wxtest_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken/wxtest"
)

func TestTicket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlatform(t)
		p.AddCorp("ww1", "a")
		get := func(kind string) answer {
			return p.get(wxtest.TicketPath + "?type=" + kind + "&access_token=" + p.Issue("wx1"))
		}
		first := get("jsapi")
		assert.Equal(t, "ok", first.Errmsg)
		assert.Equal(t, first.Ticket, p.LatestTicket("wx1", "jsapi"))
		kinds := map[string]bool{first.Ticket: true, get("wx_card").Ticket: true, get("2").Ticket: true}
		assert.Len(t, kinds, 3)
		time.Sleep(time.Hour)
		again := get("jsapi")
		assert.Equal(t, first.Ticket, again.Ticket)
		assert.Equal(t, 7200, again.ExpiresIn, "not the time that is left")
		assert.True(t, p.TicketHonoured(first.Ticket))
		time.Sleep(time.Hour)
		assert.False(t, p.TicketHonoured(first.Ticket))
		assert.NotEqual(t, first.Ticket, get("jsapi").Ticket)
		assert.Equal(t, 40097, get("nosuch").Errcode)
		assert.Equal(t, 40097, get("agent_config").Errcode)
		assert.Equal(t, 41001, p.get(wxtest.TicketPath+"?type=jsapi").Errcode)
		assert.False(t, p.TicketHonoured(""))

		corp := p.get(wxtest.CorpPath + "?corpid=ww1&corpsecret=a").AccessToken
		assert.Equal(t, 40097, p.get(wxtest.TicketPath+"?type=jsapi&access_token="+corp).Errcode)
	})
}

// What the platform says of a ticket's lifetime can be true, if the ticket lives
// longer than that, or is renewed early.
func TestTicketRenewedEarly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlatform(t, wxtest.WithTickets(4*time.Hour, 2*time.Hour))
		get := func() answer {
			return p.get(wxtest.TicketPath + "?type=jsapi&access_token=" + p.Issue("wx1"))
		}
		first := get()
		assert.Equal(t, 7200, first.ExpiresIn)
		time.Sleep(2*time.Hour - 1)
		assert.Equal(t, first.Ticket, get().Ticket)
		time.Sleep(time.Nanosecond)
		next := get().Ticket
		assert.NotEqual(t, first.Ticket, next)
		time.Sleep(2*time.Hour - 1)
		assert.True(t, p.TicketHonoured(first.Ticket), "both are valid")
		time.Sleep(time.Nanosecond)
		assert.False(t, p.TicketHonoured(first.Ticket))
		assert.True(t, p.TicketHonoured(next))
	})
}

func TestCorpTicket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlatform(t)
		token := func(secret string) string {
			return p.get(wxtest.CorpPath + "?corpid=ww1&corpsecret=" + secret).AccessToken
		}
		p.AddCorp("ww1", "a")
		p.AddCorp("ww1", "b")
		jsapi := func(secret string) answer { return p.get(wxtest.CorpJSAPIPath + "?access_token=" + token(secret)) }
		agent := func(secret string) answer {
			return p.get(wxtest.CorpTicketPath + "?type=agent_config&access_token=" + token(secret))
		}
		assert.Empty(t, p.LatestCorpTicket("ww1", "a", "jsapi"))
		first := jsapi("a")
		require.Zero(t, first.Errcode, first.Errmsg)
		assert.Equal(t, 7200, first.ExpiresIn)
		assert.Equal(t, first.Ticket, jsapi("b").Ticket, "the corporation's")
		assert.Equal(t, first.Ticket, p.LatestCorpTicket("ww1", "b", "jsapi"))
		assert.NotEqual(t, agent("a").Ticket, agent("b").Ticket, "each agent's own")
		assert.Equal(t, agent("a").Ticket, p.LatestCorpTicket("ww1", "a", "agent_config"))
		time.Sleep(time.Hour)
		assert.Equal(t, 7200, jsapi("a").ExpiresIn)
		assert.Equal(t, first.Ticket, jsapi("a").Ticket)

		assert.Equal(t, 40097, p.get(wxtest.CorpTicketPath+"?access_token="+token("a")).Errcode)
		assert.Equal(t, 40014, p.get(wxtest.CorpJSAPIPath+"?access_token="+p.fetch()).Errcode, "WeChat's token")
		assert.Equal(t, 40014, p.get(wxtest.CorpTicketPath+"?type=agent_config&access_token="+p.fetch()).Errcode)
		assert.Equal(t, 41001, p.get(wxtest.CorpJSAPIPath).Errcode)
	})
}

func TestCorpTicketQuota(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlatform(t)
		ask := func(agent int) int {
			secret := fmt.Sprint("secret", agent)
			token := p.get(wxtest.CorpPath + "?corpid=ww1&corpsecret=" + secret).AccessToken
			return p.get(wxtest.CorpJSAPIPath + "?access_token=" + token).Errcode
		}
		for agent := range 5 {
			p.AddCorp("ww1", fmt.Sprint("secret", agent))
			for range 100 {
				if agent < 4 {
					require.Zero(t, ask(agent))
				}
			}
			assert.Equal(t, 45009, ask(agent), "agent %d: 100 an hour, and 400 for all", agent)
		}
		time.Sleep(time.Hour)
		assert.Zero(t, ask(0))
		assert.Zero(t, ask(4))
	})
}
