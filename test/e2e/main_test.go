package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/test/lab"
	"holdfast/test/lab/scenario"
)

// The VIP set of the shared cluster.
const setName = "web"

var (
	vip4 = netip.MustParseAddr("10.77.1.1")
	vip6 = netip.MustParseAddr("fd77::c:1")
)

// shared is the cluster that most tests use, made by TestMain.
var shared *scenario.Stage

func TestMain(m *testing.M) {
	code, err := runTests(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		os.Exit(1)
	}
	os.Exit(code)
}

func runTests(m *testing.M) (code int, err error) {
	if err := lab.BuildPrograms("e2e",
		[]string{"-o", "BIN/", "holdfast/cmd/coordinator", "holdfast/cmd/vipagent", "holdfast/cmd/coordctl"},
		[]string{"-tags", "faultpoints", "-o", "BIN/faultpoints/", "holdfast/cmd/vipagent"},
	); err != nil {
		return 1, err
	}
	if err := lab.Enter(); err != nil {
		return 1, err
	}
	network, stage, err := startShared()
	if err != nil {
		return 1, err
	}
	shared = stage
	code = m.Run()
	err = errors.Join(stage.Recorder.Close(), network.Close())
	if code == 0 && err == nil {
		return code, os.RemoveAll(network.Dir)
	}
	fmt.Fprintln(os.Stderr, "logs of the daemons:", network.Dir)
	return code, err
}

func program(name string) string { return filepath.Join(os.Getenv(lab.BinVariable), name) }

// startShared starts the cluster of three hosts.
func startShared() (*lab.Network, *scenario.Stage, error) {
	network, err := lab.New(lab.Standard())
	if err != nil {
		return nil, nil, err
	}
	stage, err := startStage(network, lab.ClusterConfig{TTL: time.Second, Disks: true})
	if err != nil {
		err = fmt.Errorf("%w (logs of the daemons: %s)", err, network.Dir)
		return nil, nil, errors.Join(err, network.Close())
	}
	return network, stage, nil
}

// startStage starts a cluster with the set that all tests watch.
func startStage(n *lab.Network, config lab.ClusterConfig) (*scenario.Stage, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 40*time.Second)
	defer cancel()
	config.Bin = os.Getenv(lab.BinVariable)
	cluster := n.NewCluster(config)
	for _, h := range n.Hosts {
		cluster.AgentLines(h, scenario.AgentLines(h))
	}
	if err := cluster.Start(ctx); err != nil {
		return nil, fmt.Errorf("start the cluster: %w", err)
	}
	if err := cluster.Apply(ctx, vipFile(cluster)); err != nil {
		return nil, err
	}
	recorder, err := n.StartRecorder(0, vip4, vip6)
	if err != nil {
		return nil, err
	}
	s := &scenario.Stage{Cluster: cluster, Recorder: recorder, Set: setName, TTL: config.TTL, VIPs: []netip.Addr{vip4, vip6}}
	s.Weak = cluster.Weak(ctx) != ""
	return s, s.Calm(ctx)
}

// vipFile is the definition of the watched set, with all agents as candidates.
func vipFile(c *lab.Cluster) string {
	return "vips:\n" + setEntry(c, setName, vip4.String()+"/32", vip6.String()+"/128")
}

// setEntry is one entry of a file of VIP sets.
func setEntry(c *lab.Cluster, name string, prefixes ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "  - name: %s\n    addresses: [%s]\n    hosts:\n", name, strings.Join(prefixes, ", "))
	for i, h := range c.Config().Agents {
		fmt.Fprintf(&b, "      - {host: %s, priority: %d}\n", h.Name, 150-10*i)
	}
	return b.String()
}

// stage returns the shared cluster, calm, and repairs it after the test. When
// the test fails the daemons' last words are shown.
func stage(t *testing.T) (*scenario.Stage, context.Context) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	began := lab.Now()
	t.Cleanup(func() {
		defer cancel()
		if t.Failed() {
			tellLogs(t, shared.Cluster.Network)
		}
		check(t, shared.Repair(ctx))
		t.Logf("took %.1f s", lab.Now().Sub(began).Seconds())
	})
	check(t, shared.Calm(ctx))
	return shared, ctx
}

// ownNetwork is a network for one test alone.
func ownNetwork(t *testing.T, layout lab.Layout) (*lab.Network, context.Context) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 90*time.Second)
	t.Cleanup(cancel)
	layout.Dir = t.TempDir()
	n, err := lab.New(layout)
	check(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			tellLogs(t, n)
		}
		check(t, n.Close())
	})
	return n, ctx
}

// tellLogs shows the end of each log.
func tellLogs(t *testing.T, n *lab.Network) {
	t.Helper()
	text, err := n.LastWords(40)
	check(t, err)
	t.Log(text)
}

// run runs a scenario on the shared cluster and asserts its promise.
func run(t *testing.T, sc scenario.Scenario) scenario.Row {
	t.Helper()
	s, ctx := stage(t)
	return runOn(ctx, t, s, sc)
}

func runOn(ctx context.Context, t *testing.T, s *scenario.Stage, sc scenario.Scenario) scenario.Row {
	t.Helper()
	row, err := s.Run(ctx, sc)
	check(t, err)
	t.Logf("%s: gap %.1f ms, overlap %.1f ms, takeover %.1f ms, %s -> %s, stall %.1f ms (in the gap %.1f ms), cpu wait %.0f ms",
		row.Scenario, row.GapMS, row.OverlapMS, row.TakeoverMS, row.From, row.To, row.StallMS, row.GapStallMS, row.CPUWaitMS)
	if !row.OK {
		t.Errorf("%s: %s", row.Scenario, row.Why)
	}
	return row
}

// eventually polls until the check passes or the time is over.
func eventually(ctx context.Context, t *testing.T, within time.Duration, f func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	check(t, lab.Poll(ctx, 10*time.Millisecond, f))
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
