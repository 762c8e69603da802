package openplatform_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken/openplatform"
	"github.com/wxtoken/wxtoken/wxtest"
)

// A member whose clock is off sets a ticket that arrived elsewhere. The tickets that
// are pushed after that are newer all the same.
func TestATicketSetByAMemberWhoseClockIsOff(t *testing.T) {
	for _, off := range few([]time.Duration{50 * time.Minute, 0, 3 * time.Hour, 24 * time.Hour, 72 * time.Hour, 9000 * time.Hour, -5 * time.Hour, -9000 * time.Hour}) {
		for _, latestOnly := range []bool{false, true} {
			for _, pushed := range []bool{false, true} {
				bubble(t, fmt.Sprint(off, " latestOnly=", latestOnly, " pushed=", pushed), func(t *testing.T) {
					w := newWorld(t, wxtest.WithThirdParty(wxtest.ThirdParty{LatestTicketOnly: latestOnly}))
					p, off := w.process(), w.off(off)
					w.to(p)
					if pushed {
						require.NoError(t, w.PushTicket(compID, hook))
						time.Sleep(5 * time.Minute)
					}
					require.NoError(t, off.SetTicket(t.Context(), w.IssueTicket(compID)))
					token(t, p.Source())
					time.Sleep(5 * time.Minute)
					assert.Zero(t, w.outage(30*time.Hour, p.Source()))
					assert.Empty(t, w.sent(wxtest.ComponentPath)[61006])
					token(t, off.Source())
				})
			}
		}
	}
}

// An earlier version gave a ticket that was set by hand the time of its own clock.
func TestATicketOfAnEarlierVersion(t *testing.T) {
	for _, ahead := range []time.Duration{-time.Hour, 0, 2 * time.Hour, 500 * time.Hour} {
		bubble(t, ahead.String(), func(t *testing.T) {
			w := newWorld(t, wxtest.WithThirdParty(wxtest.ThirdParty{LatestTicketOnly: true}))
			lost := &forgetful{cache: w.cache}
			w.cache = lost
			old := fmt.Sprintf(`{"v":1,"value":{"ticket":%q,"created":%d}}`, w.IssueTicket(compID), time.Now().Add(ahead).Unix())
			stored, err := w.cache.CompareAndSwap(t.Context(), "wxtoken:component_ticket:"+compID, nil, []byte(old), 12*time.Hour)
			require.True(t, stored && err == nil)
			p, other := w.process(), w.process()
			token(t, p.Source())
			lost.forget()
			time.Sleep(2 * time.Hour)
			token(t, p.Source())
			token(t, other.Source())
			time.Sleep(2 * time.Hour)
			w.to(other)
			assert.Zero(t, w.outage(30*time.Hour, p.Source()), "pushes replace it")
		})
	}
}

func TestATicketSetByHandLastsUntilTheNextPush(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		w := newWorld(t, wxtest.WithThirdParty(wxtest.ThirdParty{LatestTicketOnly: true}))
		lost := &forgetful{cache: w.cache}
		w.cache = lost
		p := w.process()
		pushes := []func(){
			w.delivery(p, map[string]string{"InfoType": "component_verify_ticket", "ComponentVerifyTicket": w.IssueTicket(compID)}),
			w.delivery(p, map[string]string{"InfoType": "component_verify_ticket", "ComponentVerifyTicket": w.IssueTicket(compID)}),
		}
		// renewed reports whether a process gets a new token with what is stored.
		renewed := func(p *openplatform.Platform) bool {
			time.Sleep(2 * time.Hour)
			_, err := p.Source().Token(t.Context())
			return err == nil
		}
		pushes[1]()
		require.True(t, renewed(p))
		lost.forget() // so that the next process knows of no push
		require.NoError(t, w.process().SetTicket(t.Context(), w.IssueTicket(compID)))
		assert.True(t, renewed(p), "what this process remembers does not replace it")
		assert.True(t, renewed(w.process()), "nor does it hide it from others")

		require.NoError(t, p.SetTicket(t.Context(), w.IssueTicket(compID)))
		w.to(p)
		require.NoError(t, w.PushTicket(compID, hook))
		require.NoError(t, w.process().SetTicket(t.Context(), w.IssueTicket(compID)))
		assert.True(t, renewed(w.process()), "of two, the last one set counts")
		assert.True(t, renewed(p))

		require.NoError(t, w.PushTicket(compID, hook))
		assert.True(t, renewed(w.process()))
		assert.True(t, renewed(p))
	})
	bubble(t, "if the cache loses it, too", func(t *testing.T) {
		w := newWorld(t)
		lost := &forgetful{cache: w.cache}
		w.cache = lost
		require.NoError(t, w.process().SetTicket(t.Context(), w.IssueTicket(compID)))
		p := w.process()
		token(t, p.Source())
		lost.forget()
		time.Sleep(11 * time.Hour)
		token(t, p.Source())
		token(t, w.process().Source())
	})
	bubble(t, "one that is set again counts as new", func(t *testing.T) {
		w := newWorld(t)
		p, ticket := w.process(), w.IssueTicket(compID)
		require.NoError(t, p.SetTicket(t.Context(), ticket))
		w.Inject(wxtest.Denial(61006).On(wxtest.ComponentPath).Times(1))
		_, err := p.Source().Token(t.Context())
		require.Error(t, err)
		time.Sleep(time.Minute)
		require.NoError(t, p.SetTicket(t.Context(), ticket))
		token(t, p.Source())
	})
	bubble(t, "replayed and late pushes", func(t *testing.T) {
		w := newWorld(t, wxtest.WithThirdParty(wxtest.ThirdParty{LatestTicketOnly: true}))
		lost := &forgetful{cache: w.cache}
		w.cache = lost
		p := w.process()
		var pushes []func()
		for range 3 {
			pushes = append(pushes, w.delivery(p, map[string]string{"InfoType": "component_verify_ticket", "ComponentVerifyTicket": w.IssueTicket(compID)}))
			time.Sleep(10 * time.Minute)
		}
		pushes[2]()
		for _, by := range []string{"another clock", "another process", "this process, and the cache is empty"} {
			process := p
			switch by {
			case "another clock":
				process = w.off(-2 * time.Hour)
			case "another process":
				process = w.process()
			default:
				lost.forget()
			}
			require.NoError(t, process.SetTicket(t.Context(), w.IssueTicket(compID)), by)
			for _, deliver := range pushes {
				deliver()
			}
			w.Expire(w.LatestComponent(compID))
			_ = w.process().Source().Invalidate(t.Context(), w.LatestComponent(compID))
			assert.True(t, w.Honoured(token(t, w.process().Source())), by)
			aged()
		}
	})
}
