package pop

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// bench is a master's state beside a replica's, which sees the bodies alone.
type bench struct {
	t       fataler
	s       *State
	replica *State
	tags    []string // of the messages of each queue
	nonce   uint64
}

func newBench(t fataler, l Limits, tags ...string) *bench {
	return &bench{t: t, s: New(l), replica: New(l), tags: tags}
}

func (b *bench) apply(body []byte) {
	b.t.Helper()
	if body == nil {
		return
	}
	if err := errors.Join(b.s.Apply(body), b.replica.Apply(body)); err != nil {
		b.t.Fatal(err)
	}
	if !bytes.Equal(b.s.AppendSnapshot(nil), b.replica.AppendSnapshot(nil)) {
		b.t.Fatal("the replica's state differs")
	}
}

// request asks queue 0 for at most n messages, at a time, until they have been invisible for 100.
func (b *bench) request(n int, now int64) *Request {
	b.nonce++
	return &Request{
		Group: "g", Topic: "t", Queues: []Window{{End: uint64(len(b.tags))}}, Max: n,
		Now: now, Until: now + 100, Nonce: b.nonce, MaxAttempts: 3,
		Peek: func(_ uint32, o uint64) (Message, error) {
			if o >= uint64(len(b.tags)) {
				return Message{}, errors.New("peek beyond the end")
			}
			return Message{Tag: b.tags[o], Size: 10}, nil
		},
	}
}

// receive plans and applies, and tells what came of it.
func (b *bench) receive(r *Request) string {
	b.t.Helper()
	p, err := b.s.Receive(r)
	if err != nil {
		return err.Error()
	}
	b.apply(p.Body)
	var w strings.Builder
	for _, d := range p.Deliveries {
		fmt.Fprintf(&w, "%d.%d#%d ", d.Queue, d.Offset, d.Attempt)
	}
	for _, d := range p.Dead {
		fmt.Fprintf(&w, "dead %d.%d#%d ", d.Queue, d.Offset, d.Attempt)
	}
	if p.More {
		w.WriteString("more ")
	}
	if len(p.Deliveries) == 0 {
		fmt.Fprintf(&w, "wake %d", p.Wake)
	}
	return strings.TrimSpace(w.String())
}

func (b *bench) handle(offset, nonce uint64) Handle {
	return Handle{"broker", Key{"g", "t", 0}, offset, nonce}
}

func (b *bench) want(got, want string) {
	b.t.Helper()
	if got != want {
		b.t.Fatalf("got %q, want %q", got, want)
	}
}

func TestReceive(t *testing.T) {
	b := newBench(t, DefaultLimits(), "a", "b", "a", "a")
	b.want(b.receive(b.request(2, 1000)), "0.0#1 0.1#1")
	b.want(b.receive(b.request(2, 1001)), "0.2#1 0.3#1")
	b.want(b.receive(b.request(2, 1002)), "wake 1100")

	// Visible again: the longest visible first, and one attempt higher.
	b.want(b.receive(b.request(3, 1100)), "0.0#2 0.1#2")
	b.want(b.receive(b.request(3, 1101)), "0.2#2 0.3#2")
	b.want(b.receive(b.request(3, 1300)), "0.0#3 0.1#3 0.2#3")
	body, v := b.s.Ack([]Handle{b.handle(3, 2)})
	if v[0] != Stale || body != nil {
		t.Fatalf("another delivery's nonce: %v", v)
	}
	body, v = b.s.Ack([]Handle{b.handle(3, 4), b.handle(2, 5), b.handle(9, 4)})
	if !slices.Equal(v, []Verdict{Stale, Stale, Stale}) {
		t.Fatal(v)
	}
	b.apply(body)

	// The third attempt was the last.
	b.want(b.receive(b.request(4, 1400)), "0.3#3 dead 0.0#3 dead 0.1#3 dead 0.2#3")
	b.want(b.receive(b.request(4, 1401)), "wake 1500")
	b.want(b.receive(b.request(4, 1500)), "dead 0.3#3 wake 1500")
	b.want(b.receive(b.request(4, 1501)), "wake 0")
	if n := b.s.InFlight("g"); n != 0 {
		t.Fatal(n, "in flight")
	}
}

func TestAck(t *testing.T) {
	b := newBench(t, DefaultLimits(), "", "", "")
	b.want(b.receive(b.request(2, 0)), "0.0#1 0.1#1")
	ack := func(handles ...Handle) []Verdict {
		body, v := b.s.Ack(handles)
		b.apply(body)
		return v
	}
	// Twice in one call, and again later, is as good as once.
	if v := ack(b.handle(0, 1), b.handle(0, 1)); !slices.Equal(v, []Verdict{Good, Already}) {
		t.Fatal(v)
	}
	if v := ack(b.handle(0, 1)); v[0] != Already {
		t.Fatal(v)
	}
	// The invisible time is over, but nobody has the message: the work counts.
	if v := ack(b.handle(1, 1)); v[0] != Good {
		t.Fatal(v)
	}
	if v := ack(b.handle(2, 1)); v[0] != Stale {
		t.Fatal("never delivered", v)
	}
	h := b.handle(0, 1)
	h.Group = "other"
	if v := ack(h); v[0] != Stale {
		t.Fatal("another group", v)
	}
	for p := range b.s.All() {
		if p != (Progress{Key{"g", "t", 0}, 2, 2, 0}) {
			t.Fatalf("%+v", p)
		}
	}
}

func TestDelay(t *testing.T) {
	b := newBench(t, DefaultLimits(), "", "")
	b.receive(b.request(2, 0))
	body, h, v := b.s.Delay(b.handle(0, 1), 77, 20)
	if v != Good || h.Nonce != 77 {
		t.Fatal(h, v)
	}
	b.apply(body)
	if _, _, v := b.s.Delay(b.handle(0, 1), 78, 30); v != Stale {
		t.Fatal("the old handle is", v)
	}
	b.want(b.receive(b.request(2, 19)), "wake 20")
	b.want(b.receive(b.request(2, 20)), "0.0#2")

	// Renewing keeps the handle.
	body, vs := b.s.Renew([]Handle{b.handle(1, 1), b.handle(0, 77)}, 500)
	if !slices.Equal(vs, []Verdict{Good, Stale}) {
		t.Fatal(vs)
	}
	b.apply(body)
	b.want(b.receive(b.request(2, 119)), "wake 120")
	body, vs = b.s.Ack([]Handle{b.handle(1, 1)})
	if vs[0] != Good {
		t.Fatal(vs)
	}
	b.apply(body)
	if _, _, v := b.s.Delay(b.handle(1, 1), 79, 30); v != Stale {
		t.Fatal("settled, and then delayed:", v)
	}
}

func TestFilter(t *testing.T) {
	tags := slices.Repeat([]string{"x"}, 100)
	tags = append(tags, "a", "x", "b", "x")
	b := newBench(t, DefaultLimits(), tags...)
	ask := func(n int, now int64, expression string) string {
		r := b.request(n, now)
		f, err := ParseTags(expression)
		if err != nil {
			t.Fatal(err)
		}
		r.Filter = f
		return b.receive(r)
	}
	b.want(ask(9, 0, "a || b"), "0.100#1 0.102#1")
	b.want(ask(9, 0, "a || b"), "wake 100")
	if p := b.progress(); p.Next != 104 {
		t.Fatalf("%+v", p)
	}
	b.tags = append(b.tags, "x")
	b.want(ask(9, 0, "a"), "wake 100") // one x is not worth a record
	b.want(ask(9, 0, "x"), "0.104#1")
	b.want(ask(9, 150, "a"), "0.100#2") // b and x are settled by the new filter
	if n := b.s.InFlight("g"); n != 1 {
		t.Fatal(n, "in flight")
	}
	b.tags = append(b.tags, slices.Repeat([]string{"x"}, maxScan+10)...)
	b.want(ask(9, 151, "c"), "more wake 250")
	b.want(ask(9, 152, "c"), "wake 250")
	b.tags = append(b.tags, slices.Repeat([]string{"x"}, minSkip)...)
	b.want(ask(9, 153, "c"), "wake 250")
	if p := b.progress(); p.Next != uint64(len(b.tags)) {
		t.Fatalf("%+v of %d", p, len(b.tags))
	}
}

func (b *bench) progress() Progress {
	for p := range b.s.All() {
		return p
	}
	return Progress{}
}

func TestWindow(t *testing.T) {
	b := newBench(t, DefaultLimits(), make([]string, 20)...)
	r := b.request(2, 0)
	r.FromEnd = true
	b.want(b.receive(r), "wake 0")
	if p := b.progress(); p.Next != 20 {
		t.Fatalf("%+v", p)
	}
	b.tags = append(b.tags, make([]string, 10)...)
	b.want(b.receive(b.request(2, 0)), "0.20#1 0.21#1")
	// Retention overtakes what is in flight, and what was never delivered.
	r = b.request(2, 0)
	r.Queues[0].First = 21
	b.want(b.receive(r), "0.22#1 0.23#1")
	r = b.request(2, 100)
	r.Queues[0].First = 23
	b.want(b.receive(r), "0.23#2 0.24#1")
	r = b.request(9, 200)
	r.Queues[0].First = 28
	b.want(b.receive(r), "0.28#1 0.29#1")
	if n := b.s.InFlight("g"); n != 2 {
		t.Fatal(n, "in flight")
	}
}

func TestBounds(t *testing.T) {
	b := newBench(t, Limits{InFlight: 3, Positions: 2}, make([]string, 9)...)
	r := b.request(9, 0)
	r.MaxBytes = 29
	b.want(b.receive(r), "0.0#1 0.1#1")
	b.want(b.receive(b.request(9, 1)), "0.2#1")
	b.want(b.receive(b.request(9, 2)), "wake 100")
	if b.s.Deliverable("g", "t", Window{End: 9}, 2) || !b.s.Deliverable("g", "t", Window{End: 9}, 100) {
		t.Fatal("deliverable at the bound")
	}
	b.want(b.receive(b.request(9, 100)), "0.0#2 0.1#2")
	r = b.request(9, 100)
	r.MaxBytes = 5
	r.Queues = []Window{{Queue: 1, First: 3, End: 9}}
	b.want(b.receive(r), "wake 0")
	r.Group, r.Queues[0].Queue = "h", 1
	if _, err := b.s.Receive(r); !errors.Is(err, ErrTooMany) {
		t.Fatal(err)
	}
	b.apply(Drop("", "t"))
	if _, err := b.s.Receive(r); err != nil || b.s.InFlight("g") != 0 {
		t.Fatal(err)
	}
	b.want(b.receive(r), "1.3#1")
	r.Group = ""
	if _, err := b.s.Receive(r); !errors.Is(err, ErrInvalid) {
		t.Fatal(err)
	}
	r = b.request(9, 0)
	r.Queues[0].End++
	r.Group = "h"
	r.Peek = func(uint32, uint64) (Message, error) { return Message{}, errors.New("damaged") }
	b.want(b.receive(r), `plan delivery to group "h" of topic "t", queue 0: peek offset 0: damaged`)
}

// Several queues share one plan.
func TestQueues(t *testing.T) {
	b := newBench(t, DefaultLimits(), "", "")
	ask := func(now int64) string {
		r := b.request(3, now)
		r.Queues = []Window{{Queue: 1, End: 2}, {Queue: 0, End: 2}, {Queue: 2, End: 0}}
		return b.receive(r)
	}
	b.want(ask(0), "1.0#1 1.1#1 0.0#1")
	b.want(ask(0), "0.1#1")
	body, v := b.s.Ack([]Handle{{"b", Key{"g", "t", 1}, 0, 1}, {"b", Key{"g", "t", 0}, 0, 1}, {"b", Key{"g", "t", 1}, 1, 1}})
	if !slices.Equal(v, []Verdict{Good, Good, Good}) {
		t.Fatal(v)
	}
	b.apply(body)
	b.want(ask(5), "wake 100")
}

func TestApplyRefuses(t *testing.T) {
	b := newBench(t, DefaultLimits(), "", "", "")
	b.receive(b.request(2, 0))
	snapshot := b.s.AppendSnapshot(nil)
	k := Key{"g", "t", 0}
	for name, c := range map[string]change{
		"settled offset":   {Key: k, Done: []uint64{2}},
		"settled twice":    {Key: k, Done: []uint64{0, 0}},
		"wrong nonce":      {Key: k, Delays: []delay{{0, 2, 3, 9}}},
		"attempt repeated": {Key: k, Claims: []claim{{0, 1}}},
		"attempt left out": {Key: k, Claims: []claim{{0, 3}}},
		"second first":     {Key: k, Claims: []claim{{2, 2}}},
		"next falls":       {Key: k, Next: 1},
	} {
		s, err := Restore(DefaultLimits(), snapshot)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Apply(appendBody([]change{c})); !errors.Is(err, ErrConflict) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestParseTags(t *testing.T) {
	for e, want := range map[string]string{
		"": "", "*": "", " * ": "", "a": "a", "a||b": "a,b", " a ||  b c": "a,b c",
		"a||": "error", "||": "error", "a|b": "error", "a|||b": "error", strings.Repeat("a", 9000): "error",
		strings.Repeat("a||", 128) + "a": "error",
	} {
		f, err := ParseTags(e)
		got := strings.Join(f.tags, ",")
		if err != nil {
			got = "error"
		}
		if got != want || err != nil && !errors.Is(err, ErrFilter) {
			t.Errorf("%.20q: %q, %v", e, got, err)
		}
	}
}

// fataler is what tests and rapid's checks have in common.
type fataler interface {
	Helper()
	Fatal(...any)
	Fatalf(string, ...any)
}
