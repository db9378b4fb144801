package interop

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/test/lab"
)

// cell is one cell of the matrix.
type cell struct {
	name    string
	setting setting
	steps   []step
	// alone: its times are too short for a machine that does something else too.
	alone bool
	// only: the cell is for some pairings; nil = for all.
	only func(pairing) bool
}

// step is something that happens, and what comes of it.
type step struct {
	name   string
	do     func(context.Context, *site) error
	holder int           // who has the addresses after it: 0, 1, nobody, both
	within time.Duration // after the step began, on top of what a busy machine takes
	// wait is the least time until the new router speaks, counted from the step's
	// beginning. 0 = whatever comes.
	wait time.Duration
	// dark is the time between the old router's last advertisement, or farewell,
	// and the new one's first, as the protocol has it. 0 = not looked at.
	dark time.Duration
	// noisy: the step is one of which logs may complain, and in which two
	// addresses lists do not agree.
	noisy bool
}

// slack is what programs and a busy machine may take on top of the protocol's
// times until all has settled.
const slack = 1500 * time.Millisecond

// early and late are how far a takeover may be from the protocol's time.
const (
	early = 15 * time.Millisecond
	late  = 100 * time.Millisecond
)

// tries is how often a cell may begin because the machine stood still, or had
// others to serve most of the time: then routers are late through no fault of
// their own.
const tries = 4

// standstill is how long the machine may stand still in a cell that has something
// against its routers.
func (c cell) standstill() time.Duration { return min(50*time.Millisecond, c.setting.interval/2) }

// run plays the cell with a program on each host and judges it. It returns what
// was heard.
func (c cell) run(t *testing.T, programs [2]program) []lab.Frame {
	t.Helper()
	for try := 1; ; try++ {
		site := c.try(t, programs)
		now := lab.Now()
		stall := site.recorder.Stall(site.began, now)
		busy := stall.Max > c.standstill() || stall.CPU > now.Sub(site.began)/2
		if len(site.errors) > 0 && try < tries && busy {
			t.Logf("again, as the machine stood still for %.1f ms and let programs wait for %.0f of %.0f ms: %s",
				ms(stall.Max), ms(stall.CPU), ms(now.Sub(site.began)), strings.Join(site.errors, "\n"))
			continue
		}
		for _, e := range site.errors {
			t.Error(e)
		}
		return site.tap.Frames(site.began, lab.Now())
	}
}

// try plays the cell once.
func (c cell) try(t *testing.T, programs [2]program) *site {
	t.Helper()
	total := 20 * time.Second
	for _, s := range c.steps {
		total += s.within + slack + c.stay()
	}
	ctx, cancel := context.WithTimeout(context.Background(), total)
	defer cancel()
	site := newSite(t, c.setting, programs, 20*time.Millisecond)
	for _, step := range c.steps {
		if !site.play(ctx, step, c.stay()) {
			break // what follows builds on it
		}
	}
	site.judgeAdverts()
	for i := range site.routers {
		if err := site.routers[i].Kill(); err != nil {
			site.errorf("%v", err)
		}
	}
	return site
}

func (s *site) errorf(format string, args ...any) {
	s.errors = append(s.errors, fmt.Sprintf(format, args...))
}

// stay is how long the outcome of a step is watched: long enough for an
// advertisement that should not be there.
func (c cell) stay() time.Duration { return max(300*time.Millisecond, c.setting.interval*5/4) }

// play does a step and judges it.
func (s *site) play(ctx context.Context, step step, stay time.Duration) bool {
	s.t.Helper()
	began := lab.Now()
	if err := step.do(ctx, s); err != nil {
		s.errorf("%s: %v", step.name, err)
		return false
	}
	within, cancel := context.WithTimeout(ctx, step.within+slack)
	err := lab.Poll(within, 20*time.Millisecond, func() error { return s.settled(step.holder) })
	cancel()
	settled := lab.Now()
	if err == nil && (step.holder == nobody || step.holder == both) {
		err = pause(ctx, step.within)
	}
	if err == nil {
		err = pause(ctx, stay)
	}
	end := lab.Now()
	if err == nil {
		again, cancel := context.WithTimeout(ctx, answerAge)
		err = lab.Poll(again, 10*time.Millisecond, func() error { return s.settled(step.holder) })
		cancel()
	}
	stall := s.recorder.Stall(began, end)
	s.t.Logf("%s: settled after %.0f ms, stall %.1f ms, %s", step.name, ms(settled.Sub(began)), ms(stall.Max), s.takeoverText(began, end))
	if err != nil {
		s.errorf("%s: the addresses should be at %s: %v", step.name, s.holderText(step.holder), err)
		return false
	}
	ok := s.judgeTimes(step, began, end, stall.Max)
	if step.holder >= 0 {
		ok = s.judgeOverlaps(step, began, settled, end, stall.Max) && ok
	}
	return s.judgeLogs(step) && ok
}

// judgeOverlaps: while a step takes effect two routers may meet, afterwards none.
func (s *site) judgeOverlaps(step step, began, settled, end lab.Time, stall time.Duration) bool {
	ok := true
	for what, d := range s.overlaps(began, settled) {
		if limit := sameInstant + stall; d > limit && !step.noisy {
			s.errorf("%s: two routers at once for %.1f ms (%s), at most %.1f ms are due to a takeover", step.name, ms(d), what, ms(limit))
			ok = false
		}
	}
	for what, d := range s.overlaps(settled, end) {
		if d > 0 {
			s.errorf("%s: two routers at once for %.1f ms (%s) after all had settled", step.name, ms(d), what)
			ok = false
		}
	}
	return ok
}

// judgeTimes: nobody takes over too early, and where the protocol gives the time
// it is kept.
func (s *site) judgeTimes(step step, began, end lab.Time, stall time.Duration) bool {
	if step.wait == 0 && step.dark == 0 {
		return true
	}
	most := step.dark + late + stall
	if s.programs[step.holder].name == "frr" {
		most += s.setting.interval // it waits for its interface, and its timer, with the first one
	}
	tenures := lab.Tenures(s.tap.Adverts(s.began, end))
	ok := true
	for _, router := range s.setting.virtual() {
		i := slices.IndexFunc(tenures, func(t lab.Tenure) bool {
			return t.Router == router && t.Host == s.host(step.holder).Name && t.From >= began
		})
		if i < 0 {
			s.errorf("%s: %s did not take over %v", step.name, s.host(step.holder).Name, router)
			ok = false
			continue
		}
		if waited := tenures[i].From.Sub(began); waited < step.wait {
			s.errorf("%s: %v taken over after %.1f ms, too early: the wait is %.1f ms", step.name, router, ms(waited), ms(step.wait))
			ok = false
		}
		for _, change := range lab.Takeovers(tenures, router) {
			if change.New != tenures[i] || step.dark == 0 {
				continue
			}
			if d := change.Length(); d < step.dark-early || d > most {
				s.errorf("%s: %v was dark for %.1f ms, the protocol says %.1f ms (stall %.1f ms)", step.name, router, ms(d), ms(step.dark), ms(stall))
				ok = false
			}
		}
	}
	return ok
}

// judgeLogs: no program complains about the other's advertisements.
func (s *site) judgeLogs(step step) bool {
	ok := true
	for i := range s.routers {
		found, err := s.newComplaints(i)
		if err != nil {
			s.errorf("%v", err)
			return false
		}
		if len(found) > 0 && !step.noisy {
			s.errorf("%s: %s on %s complains, %d times:\n%s", step.name, s.programs[i].name, s.host(i).Name, len(found), strings.Join(found[:min(len(found), 5)], "\n"))
			ok = false
		}
	}
	return ok
}

// judgeAdverts: every advertisement is right to the last bit.
func (s *site) judgeAdverts() {
	const most = 5
	wrong := 0
	for _, a := range s.tap.Adverts(s.began, lab.Now()) {
		faults := append(slices.Clone(a.Faults), s.against(a)...)
		if len(faults) == 0 {
			continue
		}
		if wrong++; wrong <= most {
			s.errorf("advertisement of %s for %v with priority %d: %s", a.Host, a.Router(), a.Priority, strings.Join(faults, "; "))
		}
	}
	if wrong > most {
		s.errorf("%d advertisements are wrong", wrong)
	}
}

// holderText names a holder.
func (s *site) holderText(holder int) string {
	switch holder {
	case nobody:
		return "nobody"
	case both:
		return "both"
	}
	return fmt.Sprintf("%s (%s)", s.host(holder).Name, s.programs[holder].name)
}

// takeoverText says how long each takeover took.
func (s *site) takeoverText(began, end lab.Time) string {
	tenures := lab.Tenures(s.tap.Adverts(s.began, end))
	var words []string
	for _, router := range s.setting.virtual() {
		for _, change := range lab.Takeovers(tenures, router) {
			if change.New.From >= began {
				words = append(words, fmt.Sprintf("%d: %s -> %s %.1f ms", router.VRID, change.Old.Host, change.New.Host, ms(change.Length())))
			}
		}
	}
	return "takeovers: " + strings.Join(words, ", ")
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// against returns where an advertisement differs from the setting.
func (s *site) against(a lab.Advert) (faults []string) {
	fault := func(format string, args ...any) { faults = append(faults, fmt.Sprintf(format, args...)) }
	i := slices.IndexFunc(s.setting.instances, func(i instance) bool { return i.router() == a.Router() })
	sender := slices.IndexFunc(s.network.Hosts, func(h *lab.Host) bool { return h.Name == a.Host })
	if i < 0 || sender < 0 {
		return []string{"no such virtual router"}
	}
	instance := s.setting.instances[i]
	if int(a.Version) != s.setting.version {
		fault("version %d", a.Version)
	}
	if a.Interval != s.setting.advertInterval(sender) {
		fault("interval %s", a.Interval)
	}
	if a.Password != instance.password {
		fault("password %q", a.Password)
	}
	known := append(slices.Clone(s.lists), instance.addresses())
	if !slices.ContainsFunc(known, func(list []netip.Addr) bool { return slices.Equal(list, a.Addresses) }) {
		fault("addresses %v", a.Addresses)
	}
	want := s.host(sender).MAC.String()
	if s.programs[sender].name == "frr" || instance.vmac {
		want = fmt.Sprintf("00:00:5e:00:01:%02x", a.VRID)
		if a.Source.Is6() {
			want = fmt.Sprintf("00:00:5e:00:02:%02x", a.VRID)
		}
	}
	if a.MAC != want {
		fault("sent from %s, not %s", a.MAC, want)
	}
	if a.TTL != 255 && s.programs[sender].name == "holdfast" {
		fault("TTL %d", a.TTL)
	}
	if a.Destination.IsMulticast() == instance.unicast {
		fault("sent to %s", a.Destination)
	}
	return faults
}

// captured are the frames of all cells, for tshark.
type captured struct {
	mu     sync.Mutex
	frames []lab.Frame
	from   []string // the cell of each
}

func (c *captured) add(name string, frames []lab.Frame) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, f := range frames {
		c.frames, c.from = append(c.frames, f), append(c.from, name)
	}
}
