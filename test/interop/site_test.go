package interop

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"holdfast/test/lab"
)

// site is a network of two hosts on different segments, a client beside the
// second one, and a router on each host.
type site struct {
	t        *testing.T
	setting  setting
	programs [2]program
	network  *lab.Network
	recorder *lab.Recorder
	tap      *lab.Wiretap
	routers  [2]lab.Router
	began    lab.Time
	errors   []string // what a cell has against it

	lists [][]netip.Addr // what the first instance had before reloads
	gone  []netip.Addr   // of those, what nobody is to have any more

	up  [2]bool   // the router was started, and not ended
	log [2]string // what it had said when a step that is noisy ended
}

// newSite builds a network for the test alone. Nothing runs yet.
func newSite(t *testing.T, s setting, programs [2]program, probeEvery time.Duration) *site {
	t.Helper()
	s.instances = slices.Clone(s.instances) // a reload changes them, and other tests go on with the cell's
	layout := lab.Layout{Hosts: []lab.Segment{lab.SegmentA, lab.SegmentB}, Clients: []lab.Segment{lab.SegmentB}, Dir: t.TempDir()}
	n, err := lab.New(layout)
	check(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			tellLogs(t, n)
		}
		check(t, n.Close())
	})
	site := &site{t: t, setting: s, programs: programs, network: n, began: lab.Now()}
	for i, p := range programs {
		kind, err := p.kind()
		check(t, err)
		site.routers[i] = kind(n.Hosts[i])
	}
	site.tap, err = n.StartWiretap()
	check(t, err)
	closeTap := sync.OnceValue(site.tap.Close)
	t.Cleanup(func() { check(t, closeTap()) })
	site.recorder, err = n.StartRecorder(probeEvery, s.addresses()...)
	check(t, err)
	t.Cleanup(func() { check(t, site.recorder.Close()) })
	return site
}

func (s *site) host(i int) *lab.Host { return s.network.Hosts[i] }

func (s *site) config(i int) string { return s.programs[i].config(s.setting, s.network.Hosts, i) }

// start starts the router of a host.
func (s *site) start(i int) error {
	s.up[i] = true
	return s.routers[i].Start(s.config(i))
}

// stop ends the router of a host as a service manager would.
func (s *site) stop(ctx context.Context, i int) error {
	s.up[i] = false
	return s.routers[i].Stop(ctx)
}

// off switches a host off.
func (s *site) off(i int) error {
	s.up[i] = false
	_, err := s.host(i).PowerOff()
	return err
}

// Holders in a step.
const (
	nobody = -1
	both   = -2
)

// holds reports whether a host is to have the addresses.
func holds(holder, host int) bool { return holder == host || holder == both }

// settled returns nil when the expected host has the addresses, and nobody else,
// by every witness.
func (s *site) settled(holder int) error {
	return errors.Join(s.tablesSettled(holder), s.wireSettled(holder), s.answersSettled(holder))
}

func (s *site) tablesSettled(holder int) error {
	for _, vip := range s.setting.addresses() {
		have := s.recorder.Holders(vip)
		for i, p := range s.programs {
			if has := slices.Contains(have, s.host(i).Name); p.tables && has != holds(holder, i) {
				return fmt.Errorf("%s is in the address table of %v", vip, have)
			}
		}
	}
	for _, vip := range s.gone {
		if have := s.recorder.Holders(vip); len(have) > 0 {
			return fmt.Errorf("%s, which was taken out, is in the address table of %v", vip, have)
		}
	}
	return nil
}

// wireSettled looks at each virtual router's latest advertisements: the holder's
// is fresh, and nobody's is later.
func (s *site) wireSettled(holder int) error {
	now := lab.Now()
	adverts := s.tap.Adverts(now.Add(-max(4*s.setting.interval, 3*sameInstant)), now)
	for _, router := range s.setting.virtual() {
		tenures := lab.Tenures(slices.DeleteFunc(slices.Clone(adverts), func(a lab.Advert) bool { return a.Router() != router }))
		var latest [2]lab.Tenure
		for _, t := range tenures {
			for i, h := range s.network.Hosts {
				if h.Name == t.Host && s.up[i] && !t.Farewell {
					latest[i] = t
				}
			}
		}
		for i := range latest {
			silent := latest[i].Host == ""
			if holds(holder, i) && silent {
				return fmt.Errorf("%s does not advertise %v", s.host(i).Name, router)
			}
			if !holds(holder, i) && !silent && (holder == nobody || latest[i].To > latest[holder].From.Add(sameInstant)) {
				return fmt.Errorf("%s advertises %v", s.host(i).Name, router)
			}
		}
	}
	return nil
}

// answersSettled looks at who answered the client last, for each VIP.
func (s *site) answersSettled(holder int) error {
	if holder < 0 {
		return nil // behind a cut trunk the client hears one of two
	}
	now := lab.Now()
	for _, vip := range s.setting.addresses() {
		o := s.recorder.Observe(vip, now.Add(-answerAge), now)
		if len(o.Answers) == 0 || vip.IsLinkLocalUnicast() {
			if vip.IsLinkLocalUnicast() {
				continue // the client asks without a zone
			}
			return fmt.Errorf("nobody answers for %s", vip)
		}
		if last := o.Answers[len(o.Answers)-1]; last.Host != s.host(holder).Name {
			return fmt.Errorf("%s answers for %s", last.Host, vip)
		}
	}
	return nil
}

// sameInstant is how long two routers may both speak, or have an address, in a
// takeover: the protocol ends it with the first packet that is heard, and a busy
// machine takes a while to hear it.
const sameInstant = 100 * time.Millisecond

// answerAge is how old an answer may be that says who has an address.
const answerAge = 200 * time.Millisecond

// overlaps returns how long both hosts had something together between two times,
// by tables and by advertisements. Hosts that are off count for nothing.
func (s *site) overlaps(from, to lab.Time) map[string]time.Duration {
	found := make(map[string]time.Duration)
	if s.programs[0].tables && s.programs[1].tables {
		for _, vip := range s.setting.addresses() {
			found["table "+vip.String()] = s.observe(vip, from, to).Overlap().Kernel
		}
	}
	tenures := lab.Tenures(s.tap.Adverts(s.began, to))
	for _, router := range s.setting.virtual() {
		found[fmt.Sprintf("adverts %v", router)] = lab.SharedTenure(tenures, router, from, to)
	}
	for _, vip := range s.setting.addresses() {
		found["answers "+vip.String()] = s.observe(vip, from, to).Overlap().Answers
	}
	return found
}

func (s *site) observe(vip netip.Addr, from, to lab.Time) lab.Observations {
	return s.recorder.Observe(vip, from, to)
}

// newComplaints returns what the program of a host has complained about since the
// last call.
func (s *site) newComplaints(i int) ([]string, error) {
	log, err := s.routers[i].Log()
	if err != nil {
		return nil, err
	}
	fresh := log[len(s.log[i]):]
	s.log[i] = log
	return s.programs[i].complaints(fresh), nil
}
