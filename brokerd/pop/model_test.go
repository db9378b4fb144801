package pop

import (
	"bytes"
	"testing"

	"pgregory.net/rapid"
)

// given is what the model knows of a message in flight.
type given struct {
	nonce   uint64
	until   int64
	attempt uint32
}

// model says what consumers must see, and in the simplest way: a list of messages.
type model struct {
	b        *bench
	now      int64
	end      uint64
	flights  map[uint64]given
	settled  map[uint64]bool
	first    uint64 // the lowest offset that was never delivered
	snapshot []byte
	bodies   [][]byte // since the snapshot
}

const modelAttempts = 3

func (m *model) apply(body []byte) {
	if body != nil {
		m.bodies = append(m.bodies, body)
	}
	m.b.apply(body)
}

func (m *model) receive(t *rapid.T) {
	m.b.nonce++
	r := &Request{Group: "g", Topic: "t", Queues: []Window{{End: m.end}}, Max: rapid.IntRange(1, 4).Draw(t, "max"),
		Now: m.now, Until: m.now + rapid.Int64Range(1, 20).Draw(t, "invisible"), Nonce: m.b.nonce, MaxAttempts: modelAttempts,
		Peek: func(uint32, uint64) (Message, error) { return Message{}, nil }}
	p, err := m.b.s.Receive(r)
	if err != nil {
		t.Fatal(err)
	}
	due := 0
	for _, g := range m.flights {
		if g.until <= m.now {
			due++
		}
	}
	for _, d := range p.Dead {
		if g := m.flights[d.Offset]; g.until > m.now || g.attempt != modelAttempts || d.Attempt != modelAttempts {
			t.Fatalf("dead: %+v, known as %+v at %d", d, g, m.now)
		}
		m.settle(d.Offset)
	}
	for _, d := range p.Deliveries {
		g, again := m.flights[d.Offset]
		switch {
		case m.settled[d.Offset]:
			t.Fatalf("%+v is settled", d)
		case again && (g.until > m.now || d.Attempt != g.attempt+1 || d.Attempt > modelAttempts):
			t.Fatalf("%+v is %+v at %d", d, g, m.now)
		case !again && (d.Offset != m.first || d.Attempt != 1):
			t.Fatalf("%+v, first undelivered is %d", d, m.first)
		case !again:
			m.first++
		}
		m.flights[d.Offset] = given{r.Nonce, r.Until, d.Attempt}
	}
	if want := min(r.Max, due+int(m.end-m.first)); len(p.Deliveries)+len(p.Dead) < want && !p.More {
		t.Fatalf("%d deliveries and %d dead of %d due", len(p.Deliveries), len(p.Dead), due)
	}
	m.apply(p.Body)
}

func (m *model) settle(o uint64) {
	delete(m.flights, o)
	m.settled[o] = true
}

// handle draws one that is good, or was, or never was.
func (m *model) handle(t *rapid.T) (Handle, Verdict) {
	o := rapid.Uint64Range(0, m.end).Draw(t, "offset")
	nonce := rapid.Uint64Range(0, m.b.nonce).Draw(t, "nonce")
	g, ok := m.flights[o]
	if rapid.Bool().Draw(t, "good") {
		nonce = g.nonce
	}
	h := m.b.handle(o, nonce)
	switch {
	case m.settled[o]:
		return h, Already
	case !ok || g.nonce != nonce:
		return h, Stale
	}
	return h, Good
}

func (m *model) ack(t *rapid.T) {
	h, want := m.handle(t)
	body, v := m.b.s.Ack([]Handle{h})
	if v[0] != want {
		t.Fatalf("ack of %+v: %v, want %v", h, v[0], want)
	}
	m.apply(body)
	if want == Good {
		m.settle(h.Offset)
	}
}

func (m *model) delay(t *rapid.T) {
	h, want := m.handle(t)
	if want == Already {
		want = Stale
	}
	m.b.nonce++
	until := m.now + rapid.Int64Range(0, 20).Draw(t, "invisible")
	body, changed, v := m.b.s.Delay(h, m.b.nonce, until)
	if v != want {
		t.Fatalf("delay of %+v: %v, want %v", h, v, want)
	}
	m.apply(body)
	if want == Good {
		m.flights[h.Offset] = given{changed.Nonce, until, m.flights[h.Offset].attempt}
	}
}

func (m *model) renew(t *rapid.T) {
	h, want := m.handle(t)
	until := m.now + rapid.Int64Range(0, 20).Draw(t, "invisible")
	body, v := m.b.s.Renew([]Handle{h}, until)
	if v[0] != want {
		t.Fatalf("renewal of %+v: %v, want %v", h, v[0], want)
	}
	m.apply(body)
	if want == Good {
		m.flights[h.Offset] = given{h.Nonce, until, m.flights[h.Offset].attempt}
	}
}

// restart: a replica with the last snapshot and the bodies since is where the master is.
func (m *model) restart(t *rapid.T) {
	s, err := Restore(DefaultLimits(), m.snapshot)
	if err != nil {
		t.Fatal(err)
	}
	for _, body := range m.bodies {
		if err := s.Apply(body); err != nil {
			t.Fatal(err)
		}
	}
	now := m.b.s.AppendSnapshot(nil)
	if !bytes.Equal(s.AppendSnapshot(nil), now) {
		t.Fatal("the restarted replica differs")
	}
	if s.InFlight("g") != len(m.flights) {
		t.Fatalf("%d in flight, want %d", s.InFlight("g"), len(m.flights))
	}
	m.b.s, m.snapshot, m.bodies = s, now, nil
}

// TestModel compares long random runs with the model, and a replica with the master.
func TestModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := &model{b: newBench(t, DefaultLimits()), now: 100, flights: map[uint64]given{}, settled: map[uint64]bool{}}
		m.snapshot = m.b.s.AppendSnapshot(nil)
		t.Repeat(map[string]func(*rapid.T){
			"append":  func(t *rapid.T) { m.end += rapid.Uint64Range(0, 4).Draw(t, "messages") },
			"time":    func(t *rapid.T) { m.now += rapid.Int64Range(0, 20).Draw(t, "ms") },
			"receive": m.receive,
			"ack":     m.ack,
			"delay":   m.delay,
			"renew":   m.renew,
			"restart": m.restart,
		})
	})
}
