package lease_test

import (
	"testing"
	"time"

	"holdfast/coordinator/lease"
)

// BenchmarkCoordinator is all that a coordinator computes for one renewal: read,
// verify, promise, write the answer; 500 sessions in turn. The agent's writing of it is
// measured along.
func BenchmarkCoordinator(b *testing.B) {
	const sessions = 500
	v := lease.NewVoter(lease.VoterConfig{Name: "coordinator-1", Params: lease.DefaultParams(), LongestTTL: time.Second})
	v.SetConfiguration(0, abc)
	open := make(map[uint64]*lease.Session)
	for i := range uint64(sessions) {
		open[i+1] = &lease.Session{ID: i + 1, TTL: time.Second, Secret: [32]byte{byte(i), byte(i >> 8)}}
	}
	in := make([]byte, 0, lease.RenewalSize)
	out := make([]byte, 0, lease.MaxAnswerSize)
	b.ReportAllocs()
	n := uint64(0)
	for b.Loop() {
		s := open[n%sessions+1]
		r := lease.Renewal{Session: s.ID, Round: lease.Round{Process: 1, Sequence: n/sessions + 1}, Configuration: 1}
		in = r.Append(in[:0], &s.Secret)
		n++
		u, err := lease.ParseRenewal(in)
		if err != nil {
			b.Fatal(err)
		}
		s = open[u.Session]
		r, err = u.Verify(&s.Secret)
		if err != nil {
			b.Fatal(err)
		}
		a, verdict := v.Renew(lease.Time(n), *s, r)
		if verdict != lease.Answered {
			b.Fatal(verdict)
		}
		if out, err = a.Append(out[:0], &s.Secret); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkHolder is what an agent computes for one round of three answers, without
// their MACs.
func BenchmarkHolder(b *testing.B) {
	h := newHolder(abc)
	b.ReportAllocs()
	now := start
	for b.Loop() {
		now++
		r := h.Begin(now)
		for _, name := range abc.Voters {
			h.Answer(lease.Answer{Session: 7, Round: r, Configuration: 1, Coordinator: name})
		}
		if h.Deadline() != now.Add(s7.TTL) {
			b.Fatal("no deadline")
		}
	}
}
