package lease_test

import (
	"fmt"
	"testing"
	"time"

	"holdfast/coordinator/lease"
)

func newHolder(c ...lease.Configuration) *lease.Holder {
	h := lease.NewHolder(s7, 3)
	for _, c := range c {
		h.SetConfiguration(c)
	}
	return h
}

func answer(from string, r lease.Round, configuration uint64) lease.Answer {
	return lease.Answer{Session: 7, Round: r, Configuration: configuration, Coordinator: from}
}

// expectDeadline gives an answer and wants a deadline, in ms after start + TTL; -1 = none.
func expectDeadline(t *testing.T, h *lease.Holder, a lease.Answer, want int, moved bool) {
	t.Helper()
	got, m := h.Answer(a)
	at := lease.Time(0)
	if want >= 0 {
		at = start.Add(s7.TTL).Add(time.Duration(want) * time.Millisecond)
	}
	if got != at || m != moved || h.Deadline() != at {
		t.Fatalf("answer %+v: deadline %d moved %v, want %d %v", a, got, m, at, moved)
	}
}

func ms(n int) lease.Time { return start.Add(time.Duration(n) * time.Millisecond) }

func TestAgentRule1OpeningGivesNoLease(t *testing.T) {
	h := newHolder(abc)
	if !h.Lapsed(0) || !h.Lapsed(-5) || h.Deadline() != 0 || h.Remaining(0) != 0 || h.Fenced() {
		t.Error("a new session has a lease")
	}
	if h.Session() != s7 {
		t.Error("another session")
	}
}

func TestAgentRule1MajorityThLargestSendTime(t *testing.T) {
	h := newHolder(abc)
	r0, r1, r2 := h.Begin(ms(0)), h.Begin(ms(100)), h.Begin(ms(200))
	expectDeadline(t, h, answer("a", r2, 1), -1, false) // one of three
	expectDeadline(t, h, answer("a", r2, 1), -1, false) // twice is still one
	expectDeadline(t, h, answer("b", r0, 1), 0, true)
	expectDeadline(t, h, answer("c", r1, 1), 100, true)
	expectDeadline(t, h, answer("b", r1, 1), 100, false)
	expectDeadline(t, h, answer("b", r2, 1), 200, true)
	if d := ms(1200); h.Lapsed(d-1) || !h.Lapsed(d) || h.Remaining(d-1) != 1 {
		t.Error("it may act up to its deadline, and not at it")
	}
}

func TestAgentRule1OfFourAndFive(t *testing.T) {
	for n, want := range map[int]int{1: 0, 2: 1, 3: 1, 4: 2, 5: 2, 7: 3} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			c := lease.Configuration{Index: 1}
			for i := range n {
				c.Voters = append(c.Voters, nodeName(i))
			}
			h := newHolder(c)
			// Voter i answers a round at (n-i)·10 ms: the majority-th
			// largest is that of voter want.
			for i := n - 1; i >= 0; i-- {
				h.Answer(answer(c.Voters[i], h.Begin(ms((n-i)*10)), 1))
			}
			if got, want := h.Deadline(), ms((n-want)*10).Add(s7.TTL); got != want {
				t.Errorf("deadline %d, want %d", got, want)
			}
		})
	}
}

func TestAgentRule1LateAnswersLowerNothing(t *testing.T) {
	h := newHolder(abc)
	r0, r1 := h.Begin(ms(0)), h.Begin(ms(100))
	h.Answer(answer("a", r1, 1))
	expectDeadline(t, h, answer("b", r1, 1), 100, true)
	expectDeadline(t, h, answer("a", r0, 1), 100, false)
	expectDeadline(t, h, answer("c", r0, 1), 100, false)
	expectDeadline(t, h, answer("b", r0, 1), 100, false)
	// Nor what later answers are counted with.
	r2 := h.Begin(ms(200))
	expectDeadline(t, h, answer("c", r2, 1), 100, false)
	expectDeadline(t, h, answer("c", r0, 1), 100, false)
	expectDeadline(t, h, answer("b", r2, 1), 200, true)
	if at, ok := h.Heard("a"); !ok || at != ms(100) {
		t.Errorf("a heard at %d, %v", at, ok)
	}
	if _, ok := h.Heard("d"); ok {
		t.Error("d was heard")
	}
}

func TestAgentRule2UnknownRoundsAreDropped(t *testing.T) {
	h := newHolder(abc)
	r := h.Begin(ms(0))
	if r != (lease.Round{Process: 3, Sequence: 1}) {
		t.Fatalf("first round is %+v", r)
	}
	h.Answer(answer("a", r, 1))
	for name, a := range map[string]lease.Answer{
		"never begun":        answer("b", lease.Round{Process: 3, Sequence: 2}, 1),
		"zero":               answer("b", lease.Round{Process: 3}, 1),
		"another process":    answer("b", lease.Round{Process: 2, Sequence: 1}, 1),
		"same slot":          answer("b", lease.Round{Process: 3, Sequence: 65}, 1),
		"another session":    {Session: 8, Round: r, Configuration: 1, Coordinator: "b"},
		"no voter":           answer("d", r, 1),
		"no configuration":   answer("b", r, 2),
		"fenced, unknown":    {Session: 7, Round: lease.Round{Process: 3, Sequence: 9}, Coordinator: "b", Fenced: true},
		"fenced, of another": {Session: 8, Round: r, Coordinator: "b", Fenced: true},
	} {
		t.Run(name, func(t *testing.T) {
			expectDeadline(t, h, a, -1, false)
			if h.Fenced() {
				t.Error("fenced")
			}
		})
	}
	expectDeadline(t, h, answer("b", r, 1), 0, true)
}

func TestAgentRule2RoundZeroIsUnknown(t *testing.T) {
	h := newHolder(abc)
	h.Begin(5) // at boot, when a send time of zero is not old
	for _, who := range abc.Voters {
		if d, moved := h.Answer(answer(who, lease.Round{Process: 3}, 1)); d != 0 || moved {
			t.Errorf("deadline %d", d)
		}
	}
	if !h.Lapsed(5) {
		t.Error("a round that nobody began has proven a deadline")
	}
}

func TestRoundsAreBounded(t *testing.T) {
	h := newHolder(abc)
	old := h.Begin(ms(0))
	edge := h.Begin(ms(1))
	h.Begin(ms(1000)) // old is now one TTL old
	h.Answer(answer("a", old, 1))
	expectDeadline(t, h, answer("b", old, 1), -1, false)
	h.Answer(answer("a", edge, 1))
	expectDeadline(t, h, answer("b", edge, 1), 1, true)

	first := h.Begin(ms(1001))
	for range 63 {
		h.Begin(ms(1001))
	}
	h.Answer(answer("a", first, 1))
	expectDeadline(t, h, answer("b", first, 1), 1001, true) // still remembered
	h.Begin(ms(1002))
	h.Begin(ms(1002))
	second := lease.Round{Process: 3, Sequence: first.Sequence + 1}
	h.Answer(answer("a", second, 1))
	expectDeadline(t, h, answer("b", second, 1), 1001, false)
}

func TestLeaderRule2DeadlinePerConfiguration(t *testing.T) {
	five := lease.Configuration{Index: 9, Previous: 1, Voters: []string{"a", "b", "c", "d", "e"}}
	h := newHolder(abc, five)
	r0, r1 := h.Begin(ms(0)), h.Begin(ms(100))
	expectDeadline(t, h, answer("a", r0, 1), -1, false)
	expectDeadline(t, h, answer("b", r0, 9), -1, false) // not with a's
	expectDeadline(t, h, answer("d", r0, 9), -1, false)
	expectDeadline(t, h, answer("d", r0, 1), -1, false) // no member of 1
	expectDeadline(t, h, answer("e", r0, 9), 0, true)   // b, d, e within 9
	expectDeadline(t, h, answer("a", r1, 1), 0, false)
	expectDeadline(t, h, answer("c", r1, 1), 100, true) // a, c within 1: the largest counts
}

func TestLeaderRule2FourConfigurations(t *testing.T) {
	h := newHolder()
	at := func(i int) lease.Configuration {
		return lease.Configuration{Index: uint64(i), Voters: []string{"a", "b", "c"}}
	}
	for i := 1; i <= 4; i++ {
		h.SetConfiguration(at(i))
	}
	r0, r1 := h.Begin(ms(0)), h.Begin(ms(100))
	h.Answer(answer("a", r0, 1))
	expectDeadline(t, h, answer("b", r0, 1), 0, true)
	h.SetConfiguration(at(1)) // told again: now the newest, nothing is lost
	h.Answer(answer("a", r1, 1))
	h.SetConfiguration(at(5)) // drops 2
	h.Answer(answer("a", r1, 2))
	expectDeadline(t, h, answer("b", r1, 2), 0, false)
	expectDeadline(t, h, answer("b", r1, 1), 100, true)
	for i := 6; i <= 9; i++ {
		h.SetConfiguration(at(i)) // drops 1
	}
	if h.Deadline() != ms(1100) {
		t.Error("a proven deadline was dropped with its configuration")
	}
}

func TestOtherVotersAtOneIndexStartAnew(t *testing.T) {
	h := newHolder(abc)
	r := h.Begin(ms(0))
	h.Answer(answer("a", r, 1))
	abd := abc
	abd.Voters = []string{"a", "b", "d"}
	h.SetConfiguration(abd)
	expectDeadline(t, h, answer("b", r, 1), -1, false)
	expectDeadline(t, h, answer("d", r, 1), 0, true)
}

func TestAgentRule7Fenced(t *testing.T) {
	h := newHolder(abc)
	r0, r1 := h.Begin(ms(0)), h.Begin(ms(100))
	h.Answer(answer("a", r0, 1))
	expectDeadline(t, h, answer("b", r0, 1), 0, true)
	// Fenced counts for nothing, under any configuration, and lowers nothing.
	h.Answer(answer("a", r1, 1))
	expectDeadline(t, h, lease.Answer{Session: 7, Round: r1, Configuration: 77, Coordinator: "b", Fenced: true}, 0, false)
	if !h.Fenced() {
		t.Error("not fenced")
	}
	if at, _ := h.Heard("b"); at != ms(0) {
		t.Error("a fenced answer counts as heard")
	}
	expectDeadline(t, h, answer("c", r1, 1), 100, true) // the others still promise
}

func TestAgentRule6Adopt(t *testing.T) {
	h := newHolder(abc)
	h.Adopt(ms(1050))
	if h.Lapsed(ms(1049)) || !h.Lapsed(ms(1050)) {
		t.Error("the adopted deadline is not in force")
	}
	h.Adopt(ms(1040))
	expectDeadline(t, h, answer("a", h.Begin(ms(20)), 1), 50, false)
	r := h.Begin(ms(60))
	h.Answer(answer("a", r, 1))
	expectDeadline(t, h, answer("b", r, 1), 60, true)
}

func TestNegativeTimes(t *testing.T) {
	h := newHolder(abc)
	r := h.Begin(-2_000_000_000)
	h.Answer(answer("a", r, 1))
	d, moved := h.Answer(answer("b", r, 1))
	if d != -1_000_000_000 || !moved || h.Lapsed(-1_000_000_001) || !h.Lapsed(-1_000_000_000) {
		t.Errorf("deadline %d, moved %v", d, moved)
	}
}

func TestAgentRule2RoundIsRepeatedUntilItProvesADeadline(t *testing.T) {
	h := lease.NewHolder(s7, 3)
	expect := func(sequence uint64, again bool) {
		t.Helper()
		if r, got := h.Repeat(); got != again || again && r != (lease.Round{Process: 3, Sequence: sequence}) {
			t.Errorf("repeat %v: %t, want round %d: %t", r, got, sequence, again)
		}
	}
	expect(0, false) // no round yet
	h.Adopt(ms(900)) // of a former process: no round of this one
	expect(0, false)
	r1 := h.Begin(ms(0))
	expect(1, true) // no configuration yet
	h.SetConfiguration(abc)
	h.SetConfiguration(lease.Configuration{Index: 9, Voters: []string{"x"}}) // whoever tells that has left
	h.Answer(answer("a", r1, 1))
	expect(1, true)
	h.Answer(answer("y", r1, 1)) // no voter
	h.Answer(lease.Answer{Session: 7, Round: r1, Configuration: 1, Coordinator: "b", Fenced: true})
	expect(1, true)
	h.Answer(answer("b", r1, 1))
	expect(1, false)
	r2 := h.Begin(ms(100))
	expect(2, true)
	h.Answer(answer("c", r1, 1)) // late, and of the round before
	expect(2, true)
	h.Answer(answer("c", r2, 1))
	expect(2, true)
	h.Answer(answer("a", r2, 1))
	expect(2, false)
	// Long after the deadline an answer shows that a majority is there again.
	r3 := h.Begin(ms(200))
	h.Answer(answer("a", r3, 1))
	expect(3, true)
	expectDeadline(t, h, answer("b", r3, 1), 200, true)
	expect(3, false)
}
