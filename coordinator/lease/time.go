// Package lease is the diskless majority lease: until when a session's holder
// may act. It is pure: no I/O, no goroutine, no clock. Reading the clock is the
// caller's job, and when it is read is part of the protocol:
//
//   - a coordinator reads it after it has received a renewal ([Voter.Renew]),
//   - a holder reads it before the first datagram of a round leaves
//     ([Holder.Begin]).
//
// In a sentence: a coordinator that answers a renewal promises to take no part
// in ending that session for a little longer than its TTL, the holder may act
// until the majority-th largest answered send time plus the TTL, and a majority
// that agrees to a fence has therefore seen the holder's deadline pass.
//
// The coordinator's half is [Voter], the leader's is [Tally], the holder's is
// [Holder]; [Renewal] and [Answer] are the two datagrams between them. The words
// and the reasons are in DESIGN.md; comments here name its rules as "agent
// rule 1", "coordinator rule 5a", "leader rule 2".
package lease

import (
	"math"
	"slices"
	"time"
)

// Time is an instant on CLOCK_BOOTTIME of one host, in nanoseconds. Times of two
// hosts are never compared and never sent (agent rule 1).
type Time int64

// Add returns t+d.
func (t Time) Add(d time.Duration) Time { return t + Time(d) }

// Sub returns t-u.
func (t Time) Sub(u Time) time.Duration { return time.Duration(t - u) }

// Params bounds how wrong clocks may be.
type Params struct {
	// Rho bounds the rate error of each clock: in one real second a clock
	// advances by between 1-Rho and 1+Rho seconds. 0 <= Rho < 1.
	Rho float64
	// Margin is added to every promise; it covers the resolution of the
	// clocks and what is rounded off.
	Margin time.Duration
}

// DefaultParams are good for TTLs up to 10 s and clocks that a time daemon
// slews by at most 0.1 %.
func DefaultParams() Params {
	return Params{Rho: 0.001, Margin: 10 * time.Millisecond}
}

// Promise is P(ttl) = ttl·(1+ρ)/(1−ρ) + margin, rounded up: the holder's clock may
// be slow by ρ, so that its TTL lasts ttl/(1−ρ) of real time, while the
// coordinator's is fast by ρ.
func (p Params) Promise(ttl time.Duration) time.Duration {
	// As ttl + ttl·2ρ/(1−ρ), so that the float holds only the small part.
	extra := math.Ceil(float64(ttl) * 2 * p.Rho / (1 - p.Rho))
	return ttl + time.Duration(extra) + p.Margin
}

// Session is what both halves need to know of a session.
type Session struct {
	ID     uint64        // index of the entry that opened it; never used again
	TTL    time.Duration // how long an answered send time lasts
	Secret [32]byte      // key of the MACs of its datagrams
}

// Configuration is one Raft configuration entry.
type Configuration struct {
	Index    uint64   // of the entry; names the configuration
	Previous uint64   // index of the configuration before it, 0 = none
	Voters   []string // names, each once; nonvoters are not counted
}

// Majority is how many of its voters are a majority; with no voters it is one,
// which nobody reaches.
func (c Configuration) Majority() int { return len(c.Voters)/2 + 1 }

func (c Configuration) equal(o Configuration) bool {
	return c.Index == o.Index && c.Previous == o.Previous && slices.Equal(c.Voters, o.Voters)
}

// Round numbers a round of renewals of one session, uniquely across restarts of
// the agent (agent rule 2).
type Round struct {
	// Process is unique to the agent process and rises with every start on
	// one boot; across boots a session is not adopted, so it need not rise.
	Process uint64
	// Sequence counts the rounds of the process from 1.
	Sequence uint64
}

// Newer says whether r began after than.
func (r Round) Newer(than Round) bool {
	if r.Process != than.Process {
		return r.Process > than.Process
	}
	return r.Sequence > than.Sequence
}
