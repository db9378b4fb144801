package scenario

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"holdfast/test/lab"
)

// Row is what one run of a scenario gave. Times are in milliseconds.
type Row struct {
	Scenario   string  `json:"scenario"`
	Title      string  `json:"title"`
	GapMS      float64 `json:"gap_ms"`      // 0: no probe was lost
	OverlapMS  float64 `json:"overlap_ms"`  // by answers and by the wire, whichever is longer
	TakeoverMS float64 `json:"takeover_ms"` // from the fault to the first answer of another host; 0: there was none
	From       string  `json:"from"`
	To         string  `json:"to"`
	OK         bool    `json:"ok"`
	Why        string  `json:"why,omitempty"` // what is not as promised

	PromiseGapMS     float64 `json:"promise_gap_ms"` // negative: nothing is promised
	PromiseOverlapMS float64 `json:"promise_overlap_ms"`
	PromiseTakeover  bool    `json:"promise_takeover"`
	Anywhere         bool    `json:"anywhere"` // takeover or not, both are as promised

	GapStallMS     float64 `json:"gap_stall_ms"`     // how long the lab's own ticks were held up during the gap, in all
	OverlapStallMS float64 `json:"overlap_stall_ms"` // and the worst of them around the change of holder
	StallMS        float64 `json:"stall_ms"`         // the worst in the whole window
	CPUWaitMS      float64 `json:"cpu_wait_ms"`      // time in which some task of the machine waited for a processor

	Overlaps
	Open      bool   `json:"open"` // the gap had not ended when the row did
	Lost      int    `json:"lost_probes"`
	GapClient string `json:"gap_client"`
}

// Overlaps are the judges' words, in milliseconds.
type Overlaps struct {
	AnswersOverlapMS float64 `json:"answers_overlap_ms"`
	WireOverlapMS    float64 `json:"wire_overlap_ms"`
	BothMS           float64 `json:"both_ms"`  // two hosts were heard at once, see [lab.Observations.Both]
	KernelOverlapMS  float64 `json:"table_ms"` // the address stood in two tables
	PromiseTableMS   float64 `json:"promise_table_ms"`
}

func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// settleLimit bounds the wait for a takeover.
func settleLimit(ttl time.Duration) time.Duration { return 6*time.Second + 2*ttl }

// Run runs a scenario on a calm stage and leaves a calm stage behind, unless
// the scenario says otherwise. An error means that it could not be run; a
// broken promise is in the row.
func (s *Stage) Run(ctx context.Context, sc Scenario) (Row, error) {
	if s.broken == "" {
		if err := s.Calm(ctx); err != nil {
			return Row{}, fmt.Errorf("%s: before the fault: %w", sc.Name, err)
		}
	}
	if sc.Prepare != nil {
		if err := sc.Prepare(ctx, s); err != nil {
			return Row{}, fmt.Errorf("%s: prepare: %w", sc.Name, err)
		}
	}
	s.broken = ""
	row, err := s.measure(ctx, sc)
	if err != nil {
		return row, fmt.Errorf("%s: %w", sc.Name, err)
	}
	if sc.Broken {
		s.broken = sc.Name
		return row, nil
	}
	if err := s.Repair(ctx); err != nil {
		return row, fmt.Errorf("%s: %w", sc.Name, err)
	}
	return row, nil
}

func (s *Stage) measure(ctx context.Context, sc Scenario) (Row, error) {
	promise := sc.Promise(s.TTL)
	if s.Weak {
		promise.Overlap = max(promise.Overlap, promise.Unfenced)
	}
	clients := s.Cluster.Network.Clients
	if sc.Clients != nil {
		clients = sc.Clients(s)
	}
	if s.Holder == nil {
		return Row{}, fmt.Errorf("nobody holds %s", s.Set)
	}
	s.say("fault begins; the holder is %s", s.Holder.Name)
	began := lab.Now()
	s.began = began
	if err := sc.Fault(ctx, s); err != nil {
		return Row{}, fmt.Errorf("fault: %w", err)
	}
	if err := s.watch(ctx, sc, promise, clients); err != nil {
		return Row{}, err
	}
	ended := lab.Now()
	s.Pause(ctx, 50*time.Millisecond) // for answers that are on their way
	return s.judge(judgement{sc, promise, clients, began, ended}), nil
}

// watch waits until there is nothing more to see.
func (s *Stage) watch(ctx context.Context, sc Scenario, promise Promise, clients []*lab.Host) error {
	tail := max(sc.Watch, shortWatch)
	if promise.Takeover {
		limited, cancel := context.WithTimeout(ctx, settleLimit(s.TTL))
		defer cancel()
		// A takeover that does not come is a row like any other.
		if err := s.rest(limited, s.Holder, clients); err != nil {
			s.say("no rest: %v", err)
		}
	}
	if sc.After != nil {
		if err := sc.After(ctx, s); err != nil {
			return fmt.Errorf("after the fault: %w", err)
		}
	}
	s.Pause(ctx, tail)
	return ctx.Err()
}

// judgement is what a row is computed from.
type judgement struct {
	scenario     Scenario
	promise      Promise
	clients      []*lab.Host
	began, ended lab.Time
}

func (s *Stage) judge(j judgement) Row {
	row := Row{
		Scenario: j.scenario.Name, Title: j.scenario.Title, From: s.Holder.Name, To: s.Holder.Name,
		PromiseGapMS: millis(j.promise.Gap), PromiseOverlapMS: millis(j.promise.Overlap), PromiseTakeover: j.promise.Takeover,
		Anywhere: j.promise.Anywhere,
	}
	row.PromiseTableMS = millis(max(j.promise.Table, j.promise.Overlap))
	var gap lab.Gap
	var overlap lab.Overlap
	var first lab.Time
	for _, vip := range s.VIPs {
		o := s.Recorder.Observe(vip, j.began, j.ended)
		row.BothMS = max(row.BothMS, millis(o.Both()))
		overlap = worse(overlap, o.Overlap())
		counted := s.Recorder.Observe(vip, j.began.Add(j.promise.Grace), j.ended)
		for _, c := range j.clients {
			row.Lost += s.Recorder.Lost(c.Name, vip, counted.From, j.ended)
			if g := counted.LongestGap(c.Name); g.Length() > gap.Length() {
				gap = g
			}
		}
		if a, ok := firstOther(o.Answers, s.Holder.Name, j.clients); ok && (first == 0 || a.Received < first) {
			first, row.To = a.Received, a.Host
		}
	}
	for _, a := range s.Also {
		overlap = worse(overlap, s.Recorder.Observe(a, j.began, j.ended).Overlap())
	}
	if row.Lost > 0 {
		row.GapMS, row.Open = millis(gap.Length()), gap.Open
	}
	row.GapClient = gap.Client
	row.KernelOverlapMS, row.AnswersOverlapMS, row.WireOverlapMS = millis(overlap.Kernel), millis(overlap.Answers), millis(overlap.Wire)
	row.OverlapMS = millis(overlap.Max())
	change := j.began
	if first != 0 {
		row.TakeoverMS = millis(first.Sub(j.began))
		change = first
	}
	whole := s.Recorder.Stall(j.began, j.ended)
	row.StallMS, row.CPUWaitMS = millis(whole.Max), millis(whole.CPU)
	row.GapStallMS = millis(s.Recorder.Stall(gap.From, gap.To).Sum)
	row.OverlapStallMS = millis(s.Recorder.Stall(change.Add(-100*time.Millisecond), change.Add(100*time.Millisecond)).Max)
	if j.promise.Gap < 0 {
		row.PromiseGapMS = -1
	}
	row.judge(gap)
	return row
}

func worse(a, b lab.Overlap) lab.Overlap {
	return lab.Overlap{Kernel: max(a.Kernel, b.Kernel), Answers: max(a.Answers, b.Answers), Wire: max(a.Wire, b.Wire)}
}

func firstOther(answers []lab.Answer, holder string, clients []*lab.Host) (lab.Answer, bool) {
	i := slices.IndexFunc(answers, func(a lab.Answer) bool { return a.Host != holder && counts(clients, a.Client) })
	if i < 0 {
		return lab.Answer{}, false
	}
	first := answers[i]
	for _, a := range answers {
		if a.Host != holder && counts(clients, a.Client) && a.Received < first.Received {
			first = a
		}
	}
	return first, true
}

// clockErrorMS is how far two stamps of one moment may be apart: the kernel's
// stamps are turned from one clock into another.
const clockErrorMS = 0.1

// tickErrorMS is what a stall may be longer than it was measured: ticks that are late by
// less do not count as one. Changes of address tables are stamped when they are read.
const tickErrorMS = 1

// judge holds the row to its promise. A gap and an address table may exceed it
// by the time that the machine demonstrably held the lab up. An overlap may not
// exceed it by anything: the kernel stamped every packet, however late the lab
// read it.
func (r *Row) judge(gap lab.Gap) {
	var why []string
	broken := func(format string, args ...any) { why = append(why, fmt.Sprintf(format, args...)) }
	if gap.Open && r.Lost > 0 && r.GapMS > 100 && r.PromiseGapMS >= 0 {
		broken("no answer to the end")
	}
	if r.PromiseGapMS >= 0 && r.GapMS > r.PromiseGapMS+r.GapStallMS {
		broken("gap %.0f ms, promised %.0f ms, own stall %.0f ms", r.GapMS, r.PromiseGapMS, r.GapStallMS)
	}
	if r.OverlapMS > r.PromiseOverlapMS+clockErrorMS {
		broken("overlap %.1f ms (answers %.1f, wire %.1f), promised %.0f ms", r.OverlapMS, r.AnswersOverlapMS, r.WireOverlapMS, r.PromiseOverlapMS)
	}
	if r.KernelOverlapMS > r.PromiseTableMS+r.OverlapStallMS+tickErrorMS {
		broken("%.1f ms in the tables of two hosts, promised %.0f ms, own stall %.1f ms", r.KernelOverlapMS, r.PromiseTableMS, r.OverlapStallMS)
	}
	if moved := r.From != r.To; moved != r.PromiseTakeover && !r.Anywhere {
		broken("takeover %t, promised %t", moved, r.PromiseTakeover)
	}
	r.Why = strings.Join(why, "; ")
	r.OK = r.Why == ""
}
