package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/test/lab"
)

// measureManyAgents lets one process play many agents against three
// coordinators, and reads what that costs them.
func measureManyAgents(ctx context.Context, r *report) error {
	return r.withNetwork(func(n *lab.Network) (err error) {
		cluster := n.NewCluster(lab.ClusterConfig{Bin: r.bin, Agents: []*lab.Host{}})
		limited, cancel := context.WithTimeout(ctx, 90*time.Second)
		defer cancel()
		if err := cluster.Start(limited); err != nil {
			return err
		}
		recorder, err := n.StartRecorder(0)
		if err != nil {
			return err
		}
		defer recorder.Close()
		crowd := crowdConfig{
			Host: n.Clients[1].IPv4.Addr(), Seeds: cluster.Seeds(), Key: cluster.Key(),
			Agents: r.agents, TTL: time.Second, Warm: 5 * time.Second, Measure: 20 * time.Second,
		}
		result, ended, err := runCrowd(limited, n.Clients[1], crowd, cluster, r)
		if err != nil {
			return err
		}
		stall := recorder.Stall(ended.Add(-crowd.Measure), ended)
		r.line("\n### %d agents, three coordinators, TTL 1 s\n", r.agents)
		r.line("One process plays all agents: a session, a watch on every coordinator and six rounds of renewals a second each. %.0f s.\n", crowd.Measure.Seconds())
		r.line("| | p50 | p99 | max |")
		r.line("|---|--:|--:|--:|")
		r.line("| renewal to one answer, ms | %.1f | %.1f | %.1f |", result.AnswerP50, result.AnswerP99, result.AnswerMax)
		r.line("| renewal to a majority, ms | %.1f | %.1f | %.1f |", result.MajorityP50, result.MajorityP99, result.MajorityMax)
		r.line("\n%.0f renewals a second at each coordinator, %d of %d unanswered, %d leases lapsed; largest stall of the measurement %s ms, some task waited for a processor in %s ms.\n",
			float64(result.Sent)/crowd.Measure.Seconds()/3, result.Sent-result.Answered, result.Sent, result.Lapsed, ms(millis(stall.Max)), ms(millis(stall.CPU)))
		r.line("| | processor | memory (resident) | largest |")
		r.line("|---|--:|--:|--:|")
		for _, u := range result.usages {
			r.line("| %s | %.0f %% of one | %.0f MiB | %.0f MiB |", u.name, 100*u.share, float64(u.rss)/1024, float64(u.hwm)/1024)
		}
		return nil
	})
}

// namedUsage is a process's share of a processor and its memory.
type namedUsage struct {
	name     string
	share    float64
	rss, hwm int // KiB
}

// runCrowd runs the crowd on a host. It returns when the measurement ended.
func runCrowd(ctx context.Context, host *lab.Host, config crowdConfig, c *lab.Cluster, r *report) (crowdResult, lab.Time, error) {
	var result crowdResult
	in, out, err := os.Pipe()
	if err != nil {
		return result, 0, fmt.Errorf("make pipe: %w", err)
	}
	defer in.Close()
	argument, err := json.Marshal(config)
	if err != nil {
		return result, 0, fmt.Errorf("encode configuration: %w", err)
	}
	p, err := host.Start(lab.Command{
		Name: "crowd", Path: "/proc/self/exe", Args: []string{string(argument)}, Env: []string{roleVariable + "=" + roleCrowd}, Stdout: out,
	})
	out.Close()
	if err != nil {
		return result, 0, err
	}
	stop := context.AfterFunc(ctx, func() { _ = p.Signal(unix.SIGQUIT) }) // its log then says where it stood
	defer stop()
	lines := json.NewDecoder(in)
	var phase struct{ Phase string }
	if err := lines.Decode(&phase); err != nil {
		return result, 0, fmt.Errorf("the crowd did not get ready: %w", err)
	}
	r.talk("%d agents: %s", config.Agents, phase.Phase)
	before, began, err := usages(c, p)
	if err != nil {
		return result, 0, err
	}
	if err := lines.Decode(&result); err != nil {
		return result, 0, fmt.Errorf("the crowd has no result: %w", err)
	}
	after, ended, err := usages(c, p)
	if err != nil {
		return result, 0, err
	}
	result.usages = shares(c, before, after, ended.Sub(began))
	_, _ = io.Copy(io.Discard, in)
	<-p.Done()
	return result, ended, nil
}

// usages reads what the coordinators and the crowd have used.
func usages(c *lab.Cluster, crowd *lab.Process) ([]usage, lab.Time, error) {
	var list []usage
	for _, h := range c.Config().Coordinators {
		u, err := readUsage(c.Coordinator(h).PID())
		if err != nil {
			return nil, 0, err
		}
		list = append(list, u)
	}
	u, err := readUsage(crowd.PID())
	return append(list, u), lab.Now(), err
}

func shares(c *lab.Cluster, before, after []usage, took time.Duration) []namedUsage {
	var list []namedUsage
	for i := range after {
		name := "the process that plays the agents"
		if i < len(c.Config().Coordinators) {
			name = "coordinator " + c.Config().Coordinators[i].Name
		}
		list = append(list, namedUsage{name, float64(after[i].cpu-before[i].cpu) / float64(took), after[i].rss, after[i].hwm})
	}
	return list
}
