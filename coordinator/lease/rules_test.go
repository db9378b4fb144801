package lease_test

import (
	"math/big"
	"testing"
	"time"

	"holdfast/coordinator/lease"
)

// One test for each rule, on fixed clocks. start is when coordinators start.

const start = lease.Time(5_000_000_000)

var (
	exact = lease.Params{Rho: 0.001, Margin: 10 * time.Millisecond}
	abc   = lease.Configuration{Index: 1, Voters: []string{"a", "b", "c"}}
	s7    = lease.Session{ID: 7, TTL: time.Second}
)

const promise = 1_012_002_003 * time.Nanosecond // P(1 s)

// newVoter returns coordinator a, with all its waits over at start.
func newVoter() *lease.Voter {
	v := lease.NewVoter(lease.VoterConfig{
		Name: "a", Params: exact, Start: start.Add(-promise), LongestTTL: time.Second,
	})
	v.SetConfiguration(start.Add(-promise), abc)
	v.SetApplied(10)
	return v
}

func renewal(sequence uint64) lease.Renewal {
	return lease.Renewal{Session: 7, Round: lease.Round{Process: 1, Sequence: sequence}, Configuration: 1}
}

func expectRenew(t *testing.T, v *lease.Voter, now lease.Time, r lease.Renewal, want lease.Verdict) lease.Answer {
	t.Helper()
	a, got := v.Renew(now, s7, r)
	if got != want {
		t.Fatalf("renewal %+v: %v, want %v", r, got, want)
	}
	if !want.Send() && a != (lease.Answer{}) {
		t.Fatalf("dropped renewal has answer %+v", a)
	}
	return a
}

func expectFence(t *testing.T, got lease.FenceOutcome, want lease.FenceVerdict, remaining time.Duration) {
	t.Helper()
	if got.Verdict != want || got.Remaining != remaining {
		t.Fatalf("fence: %v for %v, want %v for %v", got.Verdict, got.Remaining, want, remaining)
	}
	if agreed := got.Agreement != (lease.Agreement{}); agreed != (want == lease.FenceAgreed) {
		t.Fatalf("fence: %v with agreement %+v", got.Verdict, got.Agreement)
	}
}

func TestPromiseLength(t *testing.T) {
	for _, c := range []struct {
		params lease.Params
		ttl    time.Duration
		want   time.Duration
	}{
		{exact, time.Second, promise},
		{exact, 0, 10 * time.Millisecond},
		{exact, 10 * time.Second, 10_030_020_021},
		{lease.Params{}, time.Second, time.Second},
		{lease.Params{Rho: 0.1}, 9, 11}, // 9·1.1/0.9
		{lease.Params{Rho: 0.1}, 10, 13},
		{lease.DefaultParams(), time.Second, promise},
	} {
		if got := c.params.Promise(c.ttl); got != c.want {
			t.Errorf("%+v promises %d for %d, want %d", c.params, got, c.ttl, c.want)
		}
		// Never below the exact value, but for what the float rounds off,
		// which the margin is there for.
		rho := new(big.Rat).SetFloat64(c.params.Rho)
		one := big.NewRat(1, 1)
		least := new(big.Rat).Quo(new(big.Rat).Add(one, rho), new(big.Rat).Sub(one, rho))
		least.Mul(least, new(big.Rat).SetInt64(int64(c.ttl)))
		if got := new(big.Rat).SetInt64(int64(c.params.Promise(c.ttl) - c.params.Margin + 1)); got.Cmp(least) < 0 {
			t.Errorf("%+v promises less than %v", c.params, least)
		}
	}
}

func TestCoordinatorRule1PromiseThenAnswer(t *testing.T) {
	v := newVoter()
	a := expectRenew(t, v, start, renewal(3), lease.Answered)
	want := lease.Answer{Session: 7, Round: lease.Round{Process: 1, Sequence: 3}, Configuration: 1, Coordinator: "a"}
	if a != want {
		t.Errorf("answer %+v, want %+v", a, want)
	}
	if lapsed, left := v.Lapsed(start.Add(promise-1), 7); lapsed || left != 1 {
		t.Errorf("promise ends early: %v, %v", lapsed, left)
	}
	if lapsed, left := v.Lapsed(start.Add(promise), 7); !lapsed || left != 0 {
		t.Errorf("promise ends late: %v, %v", lapsed, left)
	}
	expectFence(t, v.Fence(start.Add(promise-1), s7), lease.RefusedPromise, 1)
	expectFence(t, v.Fence(start.Add(promise), s7), lease.FencePending, 0)
}

func TestCoordinatorRule1PromiseNeverMovesBackwards(t *testing.T) {
	v := newVoter()
	expectRenew(t, v, start.Add(500), renewal(1), lease.Answered)
	expectRenew(t, v, start, renewal(2), lease.Answered) // clocks that were read in another order
	if _, left := v.Lapsed(start, 7); left != promise+500 {
		t.Errorf("promise lasts %v, want %v", left, promise+500)
	}
	if at, ok := v.LastRenewal(7); !ok || at != start.Add(500) {
		t.Errorf("last renewal at %v, %v", at, ok)
	}
	// Nor when the session's TTL is said to be shorter.
	short := s7
	short.TTL = time.Millisecond
	if _, verdict := v.Renew(start.Add(600), short, renewal(3)); verdict != lease.Answered {
		t.Fatal(verdict)
	}
	if _, left := v.Lapsed(start, 7); left != promise+500 {
		t.Errorf("promise lasts %v, want %v", left, promise+500)
	}
}

func TestLeaderRule1ProvenIsEvidence(t *testing.T) {
	v := newVoter()
	expect := func(at time.Duration, want time.Duration) {
		t.Helper()
		if proven, left := v.Proven(start.Add(at), 7); proven != (want > 0) || left != want {
			t.Errorf("after %v: proven %v for %v, want %v", at, proven, left, want)
		}
	}
	renew := func(at time.Duration, sequence uint64, proven bool, want lease.Verdict) {
		t.Helper()
		r := renewal(sequence)
		r.Proven = proven
		expectRenew(t, v, start.Add(at), r, want)
	}
	expect(0, 0)                       // nothing was heard
	renew(0, 1, false, lease.Answered) // its first round: it cannot have a lease yet
	expect(0, 0)
	renew(10, 1, true, lease.Repeated) // a copy is no news
	expect(10, 0)
	renew(20, 2, true, lease.Answered)
	expect(20, promise)
	renew(30, 3, false, lease.Answered) // heard, but it has lapsed
	expect(30, promise-10)
	if _, left := v.Lapsed(start.Add(30), 7); left != promise {
		t.Errorf("a renewal that was not proven is promised %v, want %v", left, promise)
	}
	renew(25, 4, true, lease.Answered) // clocks that were read in another order
	expect(30, promise)
	expect(30+promise-1, 1)
	expect(30+promise, 0)
	// The evidence ends nothing: the promise does not care for it.
	renew(40, 5, false, lease.Answered)
	expectFence(t, v.Fence(start.Add(30+promise), s7), lease.RefusedPromise, 10)
	v.Forget(7)
	expect(30, 0)
}

func TestReplayedRoundsAreDropped(t *testing.T) {
	v := newVoter()
	round := func(process, sequence uint64) lease.Renewal {
		r := renewal(sequence)
		r.Round.Process = process
		return r
	}
	for i, c := range []struct {
		r    lease.Renewal
		want lease.Verdict
	}{
		{round(5, 2), lease.Answered},
		{round(5, 2), lease.Repeated},   // its answer may have been lost
		{round(5, 1), lease.DropReplay}, // late
		{round(4, 9), lease.DropReplay}, // of the process before
		{round(5, 3), lease.Answered},
		{round(6, 1), lease.Answered}, // a new process counts from 1
		{round(5, 4), lease.DropReplay},
	} {
		expectRenew(t, v, start.Add(time.Duration(i)), c.r, c.want)
	}
	expectRenew(t, v, start.Add(500), round(6, 1), lease.Repeated)
	if _, left := v.Lapsed(start, 7); left != promise+5 {
		t.Errorf("a replay has prolonged the promise: %v", left)
	}
	if at, _ := v.LastRenewal(7); at != start.Add(5) {
		t.Errorf("a replay passes for a renewal at %v", at)
	}
	other := s7
	other.ID = 8
	if _, got := v.Renew(start, other, renewal(9)); got != lease.DropSession {
		t.Errorf("renewal of another session: %v", got)
	}
}

func TestCoordinatorRule2MarkBeforeReply(t *testing.T) {
	v := newVoter()
	expectFence(t, v.Fence(start, s7), lease.FencePending, 0)
	expectRenew(t, v, start, renewal(1), lease.DropPending)
	expectFence(t, v.Fence(start, s7), lease.RefusedPending, 0)
	if p := v.Probe(start, s7); p != (lease.Probe{}) {
		t.Errorf("probe while the mark is written: %+v", p)
	}
	out := v.MarkDurable(start, s7)
	expectFence(t, out, lease.FenceAgreed, 0)
	if want := (lease.Agreement{Session: 7, Coordinator: "a", Configuration: 1}); out.Agreement != want {
		t.Errorf("agreement %+v, want %+v", out.Agreement, want)
	}
	if p := v.Probe(start, s7); p != (lease.Probe{Lapsed: true, Marked: true}) {
		t.Errorf("probe of a marked session: %+v", p)
	}
	expectFence(t, v.Fence(start, s7), lease.FenceAgreed, 0) // a permanent fact
}

func TestCoordinatorRule2FailedWriteStaysPending(t *testing.T) {
	v := newVoter()
	expectFence(t, v.Fence(start, s7), lease.FencePending, 0)
	later := start.Add(1000 * time.Hour)
	expectRenew(t, v, later, renewal(1), lease.DropPending)
	expectFence(t, v.Fence(later, s7), lease.RefusedPending, 0)
}

func TestCoordinatorRule2NothingIsMarkedByMistake(t *testing.T) {
	v := newVoter()
	expectFence(t, v.MarkDurable(start, s7), lease.RefusedUnknown, 0)
	expectRenew(t, v, start, renewal(1), lease.Answered)
	expectFence(t, v.MarkDurable(start, s7), lease.RefusedUnknown, 0)
	expectFence(t, v.Fence(start.Add(promise), s7), lease.FencePending, 0)
	v.Forget(7) // its end was applied while the mark was being written
	expectFence(t, v.MarkDurable(start.Add(promise), s7), lease.RefusedUnknown, 0)
	if p := v.Probe(start.Add(promise), s7); p.Marked {
		t.Error("marked after its end")
	}
}

func TestCoordinatorRule2FencedForEver(t *testing.T) {
	for name, v := range map[string]*lease.Voter{
		"marked now": func() *lease.Voter {
			v := newVoter()
			v.Fence(start, s7)
			v.MarkDurable(start, s7)
			return v
		}(),
		"mark loaded": lease.NewVoter(lease.VoterConfig{Name: "a", Params: exact, Start: start, Marks: []uint64{7}}),
	} {
		t.Run(name, func(t *testing.T) {
			v.SetConfiguration(start, lease.Configuration{Index: 90, Previous: 80, Voters: []string{"a"}})
			for _, r := range []lease.Renewal{
				renewal(5),
				renewal(5), // a copy
				renewal(1),
				{Session: 7, Configuration: 90, Round: lease.Round{Process: 3, Sequence: 1}}, // not applied up to 80
				{Session: 7, Configuration: 12345, Round: lease.Round{Process: 3, Sequence: 1}},
			} {
				a := expectRenew(t, v, start.Add(time.Hour), r, lease.FencedAnswer)
				want := lease.Answer{Session: 7, Round: r.Round, Configuration: r.Configuration, Coordinator: "a", Fenced: true}
				if a != want {
					t.Errorf("answer %+v, want %+v", a, want)
				}
			}
			if _, ok := v.LastRenewal(7); ok {
				t.Error("a fenced answer counts as a renewal")
			}
			v.Forget(7)
			if p := v.Probe(start, s7); p.Marked {
				t.Error("still marked after Forget")
			}
		})
	}
}

func TestCoordinatorRule4QuietForbidsAgreeingNotAnswering(t *testing.T) {
	v := lease.NewVoter(lease.VoterConfig{Name: "a", Params: exact, Start: start, LongestTTL: time.Second})
	if got := v.QuietUntil(); got != start.Add(promise) {
		t.Errorf("quiet until %d, want %d", got, start.Add(promise))
	}
	v.SetConfiguration(start, abc) // its wait ends with the quiet time
	s8 := lease.Session{ID: 8, TTL: time.Millisecond}
	expectFence(t, v.Fence(start.Add(promise-1), s8), lease.RefusedQuiet, 1)
	expectRenew(t, v, start, renewal(1), lease.Answered)
	expectFence(t, v.Fence(start.Add(promise), s8), lease.FencePending, 0)
	if p := v.Probe(start, lease.Session{ID: 9}); p.Lapsed || p.Remaining != promise {
		t.Errorf("probe in the quiet time: %+v", p)
	}
}

func TestCoordinatorRule4LongestTTLIsRaisedFirst(t *testing.T) {
	v := lease.NewVoter(lease.VoterConfig{Name: "a", Params: exact, Start: start, LongestTTL: time.Second - 1})
	v.SetConfiguration(start, abc)
	expectRenew(t, v, start, renewal(1), lease.DropTTL)
	if lapsed, _ := v.Lapsed(start, 7); !lapsed {
		t.Error("a promise was recorded before the TTL was on disk")
	}
	v.RaiseLongestTTL(time.Second)
	v.RaiseLongestTTL(time.Millisecond)
	if got := v.LongestTTL(); got != time.Second {
		t.Errorf("longest TTL %v", got)
	}
	expectRenew(t, v, start, renewal(1), lease.Answered) // the round was not used up
}

func TestCoordinatorRule5aLatestConfigurationOnly(t *testing.T) {
	v := lease.NewVoter(lease.VoterConfig{Name: "a", Params: exact, Start: start, LongestTTL: time.Second})
	named := func(sequence, configuration uint64) lease.Renewal {
		r := renewal(sequence)
		r.Configuration = configuration
		return r
	}
	expectRenew(t, v, start, named(1, 0), lease.DropConfiguration) // none learnt yet
	v.SetConfiguration(start, abc)
	expectRenew(t, v, start, named(1, 0), lease.DropConfiguration)
	expectRenew(t, v, start, named(1, 2), lease.DropConfiguration)
	expectRenew(t, v, start, named(1, 1), lease.Answered)
	v.SetConfiguration(start, lease.Configuration{Index: 20, Previous: 1, Voters: []string{"a", "b", "c", "d"}})
	v.SetApplied(1)
	expectRenew(t, v, start, named(2, 1), lease.DropConfiguration)
	expectRenew(t, v, start, named(2, 20), lease.Answered)
	v.SetConfiguration(start, abc) // cut back
	expectRenew(t, v, start, named(3, 20), lease.DropConfiguration)
	expectRenew(t, v, start, named(3, 1), lease.Answered)
}

func TestCoordinatorRule5aPreviousConfigurationApplied(t *testing.T) {
	v := newVoter()
	c := lease.Configuration{Index: 30, Previous: 20, Voters: []string{"a", "b", "c"}}
	v.SetConfiguration(start, c)
	r := renewal(1)
	r.Configuration = 30
	v.SetApplied(19)
	expectRenew(t, v, start, r, lease.DropBehind)
	v.SetApplied(20)
	v.SetApplied(3) // never goes back
	expectRenew(t, v, start, r, lease.Answered)
}

func TestCoordinatorRule5bWaitAfterConfiguration(t *testing.T) {
	four := lease.Configuration{Index: 20, Previous: 1, Voters: []string{"a", "b", "c", "d"}}
	other := four
	other.Voters = []string{"a", "b", "c", "e"}
	for _, c := range []struct {
		name   string
		change func(v *lease.Voter)
		want   lease.FenceVerdict
		left   time.Duration
	}{
		{"none", func(v *lease.Voter) {}, lease.FencePending, 0},
		{"the same again", func(v *lease.Voter) { v.SetConfiguration(start, abc) }, lease.FencePending, 0},
		{"a new one", func(v *lease.Voter) { v.SetConfiguration(start, four) }, lease.RefusedConfiguration, promise},
		{"cut back", func(v *lease.Voter) {
			v.SetConfiguration(start.Add(-time.Hour), four)
			v.SetConfiguration(start, abc)
		}, lease.RefusedConfiguration, promise},
		{"another at the same index", func(v *lease.Voter) {
			v.SetConfiguration(start.Add(-time.Hour), four)
			v.SetConfiguration(start, other)
		}, lease.RefusedConfiguration, promise},
		{"a longer TTL raised since", func(v *lease.Voter) {
			v.SetConfiguration(start, four)
			v.RaiseLongestTTL(2 * time.Second)
		}, lease.RefusedConfiguration, exact.Promise(2 * time.Second)},
		{"told with an older clock", func(v *lease.Voter) {
			v.SetConfiguration(start, four)
			v.SetConfiguration(start.Add(-time.Hour), abc)
		}, lease.RefusedConfiguration, promise},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := newVoter()
			c.change(v)
			expectFence(t, v.Fence(start, s7), c.want, c.left)
			if c.left > 0 {
				expectFence(t, v.Fence(start.Add(c.left-1), s7), c.want, 1)
				expectFence(t, v.Fence(start.Add(c.left), s7), lease.FencePending, 0)
			}
		})
	}
}

func TestCoordinatorRule5bCoversTheSessionsOwnTTL(t *testing.T) {
	// It has never promised anything, yet others have.
	v := lease.NewVoter(lease.VoterConfig{Name: "a", Params: exact, Start: start})
	expectFence(t, v.Fence(start.Add(time.Hour), s7), lease.RefusedConfiguration, 0) // none learnt
	v.SetConfiguration(start, abc)
	expectFence(t, v.Fence(start.Add(promise-1), s7), lease.RefusedConfiguration, 1)
	expectFence(t, v.Fence(start.Add(promise), s7), lease.FencePending, 0)
}

func TestCoordinatorRule5bConfigurationLearntDuringTheWrite(t *testing.T) {
	v := newVoter()
	expectFence(t, v.Fence(start, s7), lease.FencePending, 0)
	v.SetConfiguration(start, lease.Configuration{Index: 20, Previous: 1, Voters: []string{"a", "b"}})
	expectFence(t, v.MarkDurable(start.Add(1), s7), lease.RefusedConfiguration, promise-1)
	expectRenew(t, v, start, renewal(1), lease.FencedAnswer) // the mark stands
	out := v.Fence(start.Add(promise), s7)
	expectFence(t, out, lease.FenceAgreed, 0)
	if out.Agreement.Configuration != 20 {
		t.Errorf("agreement names %d", out.Agreement.Configuration)
	}
}

func TestLeaderRule2Tally(t *testing.T) {
	agree := func(who string, session, configuration uint64) lease.Agreement {
		return lease.Agreement{Session: session, Coordinator: who, Configuration: configuration}
	}
	five := lease.Configuration{Index: 9, Previous: 1, Voters: []string{"a", "b", "c", "d", "e"}}
	for _, c := range []struct {
		name string
		in   lease.Configuration
		got  []lease.Agreement
		want bool
	}{
		{"none", abc, nil, false},
		{"one of three", abc, []lease.Agreement{agree("a", 7, 1)}, false},
		{"one of three, twice", abc, []lease.Agreement{agree("a", 7, 1), agree("a", 7, 1)}, false},
		{"two of three", abc, []lease.Agreement{agree("a", 7, 1), agree("c", 7, 1)}, true},
		{"no voter", abc, []lease.Agreement{agree("a", 7, 1), agree("d", 7, 1)}, false},
		{"another session", abc, []lease.Agreement{agree("a", 7, 1), agree("b", 8, 1)}, false},
		{"another configuration", abc, []lease.Agreement{agree("a", 7, 1), agree("b", 7, 9)}, false},
		{"both", abc, []lease.Agreement{agree("a", 7, 1), agree("b", 7, 9), agree("b", 7, 1)}, true},
		{"two of five", five, []lease.Agreement{agree("a", 7, 9), agree("b", 7, 9), agree("c", 7, 1)}, false},
		{"three of five", five, []lease.Agreement{agree("a", 7, 9), agree("b", 7, 9), agree("c", 7, 9)}, true},
		{"nobody votes", lease.Configuration{Index: 1}, []lease.Agreement{agree("a", 7, 1)}, false},
		{"two of four", lease.Configuration{Index: 1, Voters: []string{"a", "b", "c", "d"}},
			[]lease.Agreement{agree("a", 7, 1), agree("b", 7, 1)}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			tally := lease.NewTally(7)
			for _, a := range c.got {
				tally.Add(a)
			}
			if got := tally.Proven(c.in); got != c.want {
				t.Errorf("proven %v, want %v", got, c.want)
			}
		})
	}
}

func TestVerdictNames(t *testing.T) {
	seen := make(map[string]bool)
	for v := lease.Answered; v <= lease.DropSession; v++ {
		if v.String() == "unknown" || seen[v.String()] {
			t.Errorf("verdict %d is called %q", v, v)
		}
		seen[v.String()] = true
	}
	seen = make(map[string]bool)
	for v := lease.FenceAgreed; v <= lease.RefusedUnknown; v++ {
		if v.String() == "invalid" || seen[v.String()] {
			t.Errorf("fence verdict %d is called %q", v, v)
		}
		seen[v.String()] = true
	}
}
