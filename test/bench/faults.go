package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"holdfast/test/lab"
	"holdfast/test/lab/scenario"
)

const (
	setName = "web"
	vip4    = "10.77.1.1"
	vip6    = "fd77::c:1"
)

// withNetwork builds the standard network for f and takes it down again. The
// logs stay only if something went wrong, or if they were asked for.
func (r *report) withNetwork(f func(*lab.Network) error) (err error) {
	layout := lab.Standard()
	layout.Dir = r.logs
	n, err := lab.New(layout)
	if err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, n.Close())
		switch {
		case err == nil && r.logs == "":
			err = os.RemoveAll(n.Dir)
		case err != nil:
			err = fmt.Errorf("%w (logs of the daemons: %s)", err, n.Dir)
		}
	}()
	return f(n)
}

// withStage starts a cluster with one watched VIP set for f.
func withStage(ctx context.Context, r *report, ttl time.Duration, f func(*scenario.Stage) error) error {
	return r.withNetwork(func(n *lab.Network) (err error) {
		cluster := n.NewCluster(lab.ClusterConfig{Bin: r.bin, TTL: ttl})
		vips := fmt.Sprintf("vips:\n  - name: %s\n    addresses: [%s/32, %s/128]\n    hosts:\n", setName, vip4, vip6)
		for i, h := range n.Hosts {
			cluster.AgentLines(h, scenario.AgentLines(h))
			vips += fmt.Sprintf("      - {host: %s, priority: %d}\n", h.Name, 150-10*i)
		}
		starting, cancel := context.WithTimeout(ctx, 30*time.Second)
		defer cancel()
		if err := cluster.Start(starting); err != nil {
			return err
		}
		if err := cluster.Apply(starting, vips); err != nil {
			return err
		}
		s := &scenario.Stage{
			Cluster: cluster, Set: setName, TTL: ttl,
			VIPs: []netip.Addr{netip.MustParseAddr(vip4), netip.MustParseAddr(vip6)},
			Weak: cluster.Weak(ctx) != "",
		}
		if s.Recorder, err = n.StartRecorder(0, s.VIPs...); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, s.Recorder.Close()) }()
		return f(s)
	})
}

// faultsToMeasure are the rows of the report.
func faultsToMeasure(only string) []scenario.Scenario {
	all := append(scenario.All(), scenario.QuorumLost())
	if only == "" {
		return all
	}
	wanted := strings.Split(only, ",")
	return slices.DeleteFunc(all, func(s scenario.Scenario) bool { return !slices.Contains(wanted, s.Name) })
}

// measureFaults runs each fault several times on one cluster with a TTL of 1 s.
func measureFaults(ctx context.Context, r *report) error {
	rows := make(map[string][]scenario.Row)
	scenarios := faultsToMeasure(r.scenarios)
	var loss []scenario.Row
	err := withStage(ctx, r, time.Second, func(s *scenario.Stage) error {
		for run := range r.runs {
			for _, sc := range scenarios {
				row, err := r.once(ctx, s, sc, run)
				if err != nil {
					return err
				}
				rows[sc.Name] = append(rows[sc.Name], row)
			}
		}
		if r.scenarios != "" && !strings.Contains(r.scenarios, "random-loss") {
			return nil
		}
		for run := range r.lossRuns {
			row, err := r.once(ctx, s, scenario.RandomLoss(), run)
			if err != nil {
				return err
			}
			loss = append(loss, row)
		}
		return nil
	})
	r.line("\n### Faults of the holder, TTL 1 s, %d runs each\n", r.runs)
	r.faultTable(scenarios, rows)
	r.lossTable(loss)
	return err
}

// once runs one scenario and says how it went.
func (r *report) once(ctx context.Context, s *scenario.Stage, sc scenario.Scenario, run int) (scenario.Row, error) {
	limited, cancel := context.WithTimeout(ctx, 90*time.Second)
	defer cancel()
	row, err := s.Run(limited, sc)
	if err != nil {
		return row, err
	}
	verdict := "ok"
	if !row.OK {
		verdict = row.Why
	}
	r.talk("%-16s run %d: gap %s ms (stall %s), overlap %s ms, %s -> %s: %s", sc.Name, run+1, ms(row.GapMS), ms(row.GapStallMS), ms(row.OverlapMS), row.From, row.To, verdict)
	return row, nil
}

// column collects one figure of several rows.
func column(rows []scenario.Row, f func(scenario.Row) float64) []float64 {
	var values []float64
	for _, row := range rows {
		values = append(values, f(row))
	}
	return values
}

func (r *report) faultTable(scenarios []scenario.Scenario, rows map[string][]scenario.Row) {
	r.line("Milliseconds, median / largest. Stall: time that the measuring ticks were held up, during the gap and around the change of holder.\n")
	r.line("| fault | gap | promised | stall in the gap | overlap | promised | stall at the change | takeover | as promised |")
	r.line("|---|--:|--:|--:|--:|--:|--:|--:|--:|")
	for _, sc := range scenarios {
		got := rows[sc.Name]
		if len(got) == 0 {
			continue
		}
		kept := 0
		for _, row := range got {
			if row.OK {
				kept++
			}
		}
		r.line("| %s | %s | %s | %s | %s | %s | %s | %s | %d of %d |", sc.Title,
			spread(column(got, func(w scenario.Row) float64 { return w.GapMS })), bound(got[0].PromiseGapMS),
			spread(column(got, func(w scenario.Row) float64 { return w.GapStallMS })),
			spread(column(got, func(w scenario.Row) float64 { return w.OverlapMS })), bound(got[0].PromiseOverlapMS),
			spread(column(got, func(w scenario.Row) float64 { return w.OverlapStallMS })),
			spread(column(got, func(w scenario.Row) float64 { return w.TakeoverMS })), kept, len(got))
	}
}

func bound(v float64) string {
	if v <= 0 {
		return "0"
	}
	return fmt.Sprintf("<= %.0f", v)
}

func (r *report) lossTable(rows []scenario.Row) {
	if len(rows) == 0 {
		return
	}
	stayed := 0
	for _, row := range rows {
		if row.From == row.To {
			stayed++
		}
	}
	r.line("\n30 %% random loss in both directions on the holder's link for 20 s: no takeover in %d of %d runs (promised: 9 of 10), overlap %s ms, largest stall %s ms.",
		stayed, len(rows), spread(column(rows, func(w scenario.Row) float64 { return w.OverlapMS })),
		ms(quantile(column(rows, func(w scenario.Row) float64 { return w.StallMS }), 1)))
}

// measureQuickProfile runs the faults that end a lease by its time with a TTL
// of 500 ms.
func measureQuickProfile(ctx context.Context, r *report) error {
	scenarios := []scenario.Scenario{scenario.PowerOff(), scenario.PowerOffLeader(), scenario.CutOut(), scenario.AgentRestart(), scenario.LeaderKilled()}
	rows := make(map[string][]scenario.Row)
	err := withStage(ctx, r, scenario.QuickProfile, func(s *scenario.Stage) error {
		for run := range r.runs {
			for _, sc := range scenarios {
				row, err := r.once(ctx, s, sc, run)
				if err != nil {
					return err
				}
				rows[sc.Name] = append(rows[sc.Name], row)
			}
		}
		return nil
	})
	r.line("\n### The quick profile: TTL 500 ms, %d runs each\n", r.runs)
	r.faultTable(scenarios, rows)
	return err
}
