package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"holdfast/test/lab"
	"holdfast/test/lab/scenario"
)

// contender is one of the systems that are measured under the same faults.
type contender struct {
	name string
	peer string // the contender that it is compared with; "": with none
	// most is the largest outage at power-off, in outages of the peer.
	most float64
	with func(context.Context, *report, func(*scenario.Stage) error) error
}

// Names of faults that are treated on their own.
const (
	powerOffFault = "power-off"
	lossFault     = "random-loss"
)

// contenders are measured in this order in every run.
func contenders() []contender {
	return []contender{
		{name: "keepalived, VRRPv2, 1 s", with: withKeepalived(2, time.Second)},
		{name: "Holdfast, TTL 1 s", peer: "keepalived, VRRPv2, 1 s", most: 0.36, with: withHoldfast(time.Second)},
		{name: "keepalived, VRRPv3, 100 ms", with: withKeepalived(3, 100*time.Millisecond)},
		{name: "Holdfast, TTL 500 ms", peer: "keepalived, VRRPv3, 100 ms", most: 2.2, with: withHoldfast(scenario.QuickProfile)},
	}
}

func withHoldfast(ttl time.Duration) func(context.Context, *report, func(*scenario.Stage) error) error {
	return func(ctx context.Context, r *report, f func(*scenario.Stage) error) error {
		return withStage(ctx, r, ttl, f)
	}
}

// withKeepalived is withStage with keepalived in the place of the cluster.
func withKeepalived(version int, interval time.Duration) func(context.Context, *report, func(*scenario.Stage) error) error {
	return func(ctx context.Context, r *report, f func(*scenario.Stage) error) error {
		path, err := lab.FindKeepalived()
		if err != nil {
			return err
		}
		return r.withNetwork(func(n *lab.Network) (err error) {
			s := &scenario.Stage{
				Cluster: n.NewCluster(lab.ClusterConfig{}), Set: setName,
				TTL:  time.Second, // for as long as with a TTL of 1 s, a takeover is waited for
				VIPs: []netip.Addr{netip.MustParseAddr(vip4), netip.MustParseAddr(vip6)},
			}
			k := n.NewKeepalived(lab.KeepalivedConfig{
				Path: path, Version: version, Interval: interval, Addresses: s.VIPs, Fault: scenario.MaintenanceFile,
			})
			if err := k.Start(); err != nil {
				return err
			}
			s.System = k
			if s.Recorder, err = n.StartRecorder(0, s.VIPs...); err != nil {
				return err
			}
			defer func() { err = errors.Join(err, s.Recorder.Close()) }()
			return f(s)
		})
	}
}

// outcomes are the rows of every fault and contender.
type outcomes map[string]map[string][]scenario.Row

func (o outcomes) add(contender string, row scenario.Row) {
	if o[row.Scenario] == nil {
		o[row.Scenario] = make(map[string][]scenario.Row)
	}
	o[row.Scenario][contender] = append(o[row.Scenario][contender], row)
}

// comparison is a run over all contenders, and what it has measured so far.
type comparison struct {
	report    *report
	scenarios []scenario.Scenario
	got       outcomes
	raised    map[string][]float64 // contender -> how often an address was raised during random loss

	took, waited time.Duration // of it some task of the machine waited for a processor
}

// measureSideBySide runs the faults on every contender in turn, run by run, each
// time on a network that was made anew, so that neither the machine's mood nor
// what one leaves behind favours another.
func measureSideBySide(ctx context.Context, r *report) error {
	m := &comparison{report: r, scenarios: scenario.Compared(r.frozen), got: make(outcomes), raised: make(map[string][]float64)}
	if r.scenarios != "" {
		wanted := strings.Split(r.scenarios, ",")
		m.scenarios = slices.DeleteFunc(m.scenarios, func(s scenario.Scenario) bool { return !slices.Contains(wanted, s.Name) })
	}
	for run := range r.runs {
		for _, c := range contenders() {
			err := c.with(ctx, r, func(s *scenario.Stage) error { return m.measure(ctx, s, c, run) })
			if err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
		}
	}
	r.line("\n### Side by side with keepalived, %d runs of power-off, %d of the others\n", r.runs, min(r.runs, r.otherRuns))
	r.sideTable(m.scenarios, m.got)
	r.raisedLine(m.raised)
	r.line("Some task of the machine waited for a processor during %.0f %% of the %s that this took.\n",
		100*m.waited.Seconds()/max(m.took.Seconds(), 1), m.took.Round(time.Minute))
	broken := checkSideBySide(m.got)
	for _, b := range broken {
		r.line("- not held: %s", b)
	}
	r.broken = append(r.broken, broken...)
	return nil
}

// measure runs the scenarios that are due in this run on one contender.
func (m *comparison) measure(ctx context.Context, s *scenario.Stage, c contender, run int) error {
	if err := s.Recorder.Strangers(s.VIPs...); err != nil {
		return err
	}
	began := lab.Now()
	defer func() {
		ended := lab.Now()
		m.took, m.waited = m.took+ended.Sub(began), m.waited+s.Recorder.Stall(began, ended).CPU
	}()
	for _, sc := range m.scenarios {
		if run >= m.report.otherRuns && sc.Name != powerOffFault {
			continue
		}
		if err := m.once(ctx, s, c, sc); err != nil {
			return err
		}
	}
	return nil
}

func (m *comparison) once(ctx context.Context, s *scenario.Stage, c contender, sc scenario.Scenario) error {
	limited, cancel := context.WithTimeout(ctx, 90*time.Second)
	defer cancel()
	if err := s.Calm(limited); err != nil {
		return err
	}
	began := lab.Now()
	row, err := s.Run(limited, sc)
	if err != nil {
		return err
	}
	m.got.add(c.name, row)
	if sc.Name == lossFault {
		m.raised[c.name] = append(m.raised[c.name], raised(s, began))
	}
	m.report.talk("%-26s %-13s %d: outage %s ms (stall %s), overlap %s ms (judges of answers %s, of the wire %s), address table %s ms, %s -> %s",
		c.name, sc.Name, len(m.got[sc.Name][c.name]), outage(row), ms(row.GapStallMS), ms(both(row)), ms(row.AnswersOverlapMS),
		ms(row.WireOverlapMS), ms(row.KernelOverlapMS), row.From, row.To)
	return nil
}

// raised counts how often a host got the first address since a time: under
// random loss a moved address comes back before the run ends.
func raised(s *scenario.Stage, since lab.Time) float64 {
	count := 0.0
	for _, h := range s.Recorder.Holds(s.VIPs[0]) {
		if h.From > since {
			count++
		}
	}
	return count
}

func (r *report) raisedLine(raised map[string][]float64) {
	if len(raised) == 0 {
		return
	}
	var list []string
	for _, c := range contenders() {
		counts := raised[c.name]
		list = append(list, fmt.Sprintf("%s %.0f / %.0f", c.name, quantile(counts, 0.5), quantile(counts, 1)))
	}
	r.line("How often a host raised the address during random loss, median / largest: %s.\n", strings.Join(list, "; "))
}

// both is the time in which others heard two hosts with the address.
func both(row scenario.Row) float64 { return row.BothMS }

// trace is the worst that any judge of packets says: also how long after the
// takeover a single packet came from the wrong host.
func trace(row scenario.Row) float64 {
	return max(row.BothMS, row.AnswersOverlapMS, row.WireOverlapMS)
}

func outage(row scenario.Row) string {
	if lasting(row) {
		return ">" + ms(row.GapMS)
	}
	return ms(row.GapMS)
}

// outages writes the median and the largest; ">" says that the service was not
// back when the run ended.
func outages(rows []scenario.Row) string {
	text := spread(column(rows, gap))
	if slices.ContainsFunc(rows, lasting) {
		text = "> " + text
	}
	return text
}

// lasting reports whether the service was not back at the end. A last answer
// that the machine's own stall kept back says nothing about that.
func lasting(w scenario.Row) bool { return w.Open && w.GapMS-w.GapStallMS > 100 }

func gap(w scenario.Row) float64 { return w.GapMS }

func (r *report) sideTable(scenarios []scenario.Scenario, got outcomes) {
	r.line("Milliseconds, median / largest. `>`: no service to the end of the run. Overlap: seen by a client, or by a stranger who asks for the address by ARP;")
	r.line("the address tables apart. Ratio: outage in outages of the keepalived row above it. Stall: time that the measuring ticks were held up.\n")
	r.line("| fault | system | outage | stall in it | ratio | overlap | stall at the change | in two address tables |")
	r.line("|---|---|--:|--:|--:|--:|--:|--:|")
	for _, sc := range scenarios {
		title := sc.Title
		for _, c := range contenders() {
			rows := got[sc.Name][c.name]
			if len(rows) == 0 {
				continue
			}
			r.line("| %s | %s | %s | %s | %s | %s | %s | %s |", title, c.name, outages(rows),
				spread(column(rows, func(w scenario.Row) float64 { return w.GapStallMS })), ratios(sc.Name, rows, got[sc.Name][c.peer]),
				spread(column(rows, both)), spread(column(rows, func(w scenario.Row) float64 { return w.OverlapStallMS })),
				spread(column(rows, func(w scenario.Row) float64 { return w.KernelOverlapMS })))
			title = ""
		}
	}
	r.line("")
}

// ratio returns by what the q-quantile of an outage is larger than the peer's; ok
// is false if the peer had none that is worth the name.
func ratio(rows, peer []scenario.Row, q float64) (value float64, ok bool) {
	const least = 50 // ms without the machine's own stall; below it lie lost probes
	if quantile(column(peer, func(w scenario.Row) float64 { return w.GapMS - w.GapStallMS }), q) < least {
		return 0, false
	}
	return quantile(column(rows, gap), q) / quantile(column(peer, gap), q), true
}

func ratios(fault string, rows, peer []scenario.Row) string {
	middle, ok := ratio(rows, peer, 0.5)
	most, also := ratio(rows, peer, 1)
	if !ok || !also || fault == lossFault { // there it is a matter of chance
		return ""
	}
	text := fmt.Sprintf("%.2f / %.2f", middle, most)
	if slices.ContainsFunc(peer, lasting) {
		text = "< " + text
	}
	return text
}

// checkSideBySide returns what does not hold of that which Holdfast promises
// beside keepalived: a short outage at power-off, and never an overlap.
func checkSideBySide(got outcomes) []string {
	const (
		seconds    = 1000 // ms
		clockError = 0.1  // ms; by so much two stamps of one moment may differ
	)
	var broken []string
	worst := 0.0 // overlap of keepalived
	for _, fault := range slices.Sorted(maps.Keys(got)) {
		for _, c := range contenders() {
			rows := got[fault][c.name]
			if c.peer == "" {
				worst = max(worst, quantile(column(rows, both), 1))
			} else if most := quantile(column(rows, trace), 1); most > clockError {
				broken = append(broken, fmt.Sprintf("%s, %s: overlap %s ms, promised 0", c.name, fault, ms(most)))
			}
		}
	}
	if worst < seconds {
		broken = append(broken, fmt.Sprintf("keepalived's longest overlap is %s ms: these faults show no difference", ms(worst)))
	}
	for _, c := range contenders() {
		if c.peer == "" {
			continue
		}
		for _, q := range []float64{0.5, 1} {
			value, ok := ratio(got[powerOffFault][c.name], got[powerOffFault][c.peer], q)
			if !ok || value == 0 {
				broken = append(broken, fmt.Sprintf("%s: no outage at power-off was measured", c.name))
			} else if value > c.most {
				broken = append(broken, fmt.Sprintf("%s: outage at power-off %.2f of that of %s, promised %.2f", c.name, value, c.peer, c.most))
			}
		}
	}
	return broken
}
