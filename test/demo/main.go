// Command demo shows what Holdfast does when things break. It builds a network
// of three hosts and two clients in namespaces of its own, runs three
// coordinators and three agents as real processes, and then powers off, kills,
// freezes, partitions and drains the holder of a virtual IP, one after the
// other, measuring what the clients see.
//
// It needs neither root nor any program but the ones that `make build` makes.
// The exit code is 0 only if every row of the final table is as promised.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"holdfast/test/lab"
	"holdfast/test/lab/scenario"
)

// The VIP set of the demo.
const (
	setName = "web"
	vip4    = "10.77.1.1"
	vip6    = "fd77::c:1"
)

type options struct {
	bin, json, logs string
	only            string
	ttl             time.Duration
	keep, list      bool
}

func main() { os.Exit(run(os.Args[1:])) }

func run(args []string) int {
	o, err := parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		fmt.Fprintln(os.Stderr, "demo:", err)
		return 2
	}
	if o.list {
		for _, s := range scenario.All() {
			fmt.Printf("%-18s %s\n", s.Name, s.Title)
		}
		return 0
	}
	scenarios, err := choose(o.only)
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		return 2
	}
	if err := lab.Enter(); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		return 1
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ok, err := show(ctx, o, scenarios)
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
	}
	if err != nil || !ok {
		return 1
	}
	return 0
}

func parse(args []string) (options, error) {
	var o options
	f := flag.NewFlagSet("demo", flag.ContinueOnError)
	f.StringVar(&o.bin, "bin", besideMe(), "directory of the built programs")
	f.StringVar(&o.json, "json", "", "write the rows to this file")
	f.StringVar(&o.logs, "logs", "", "directory for the daemons' logs (default: a new temporary one, removed when all is well)")
	f.StringVar(&o.only, "only", "", "run only these scenarios, separated by commas (--list names them)")
	f.DurationVar(&o.ttl, "ttl", time.Second, "length of the lease")
	f.BoolVar(&o.keep, "keep", false, "leave the cluster running at the end, and say how to look at it")
	f.BoolVar(&o.list, "list", false, "list the scenarios and exit")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if f.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q", f.Arg(0))
	}
	bin, err := filepath.Abs(o.bin)
	if err != nil {
		return o, fmt.Errorf("find programs: %w", err)
	}
	o.bin = bin
	for _, program := range []string{"coordinator", "vipagent", "coordctl"} {
		if _, err := os.Stat(filepath.Join(o.bin, program)); err != nil && !o.list {
			return o, fmt.Errorf("find %s: %w (make build makes it; --bin says where it is)", program, err)
		}
	}
	return o, nil
}

func besideMe() string {
	exe, err := os.Executable()
	if err != nil {
		return "bin"
	}
	return filepath.Dir(exe)
}

func choose(only string) ([]scenario.Scenario, error) {
	if only == "" {
		return scenario.All(), nil
	}
	var chosen []scenario.Scenario
	for _, name := range strings.Split(only, ",") {
		s, ok := scenario.ByName(strings.TrimSpace(name))
		if !ok {
			return nil, fmt.Errorf("no scenario %q (--list names them)", name)
		}
		chosen = append(chosen, s)
	}
	return chosen, nil
}

// show runs the scenarios and reports whether every promise was kept.
func show(ctx context.Context, o options, scenarios []scenario.Scenario) (ok bool, err error) {
	layout := lab.Standard()
	layout.Dir = o.logs
	network, err := lab.New(layout)
	if err != nil {
		return false, err
	}
	defer func() {
		err = errors.Join(err, network.Close())
		if ok && err == nil && o.logs == "" {
			err = os.RemoveAll(network.Dir)
		} else {
			fmt.Fprintln(os.Stderr, "logs of the daemons:", network.Dir)
		}
	}()
	recorder, err := network.StartRecorder(0, netip.MustParseAddr(vip4), netip.MustParseAddr(vip6))
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, recorder.Close()) }()

	screen := newScreen(os.Stdout)
	stage, err := setUp(ctx, o, network, recorder, screen)
	if err != nil {
		return false, err
	}
	watch, err := stage.Cluster.WatchStatus(250 * time.Millisecond)
	if err != nil {
		return false, err
	}
	defer watch.Close()

	began := lab.Now()
	rows, err := perform(ctx, stage, screen, watch, scenarios)
	screen.table(rows)
	ok = err == nil && allOK(rows)
	screen.summary(rows, lab.Now().Sub(began))
	if o.json != "" {
		err = errors.Join(err, writeJSON(o.json, rows))
	}
	if o.keep && ctx.Err() == nil {
		keep(ctx, stage.Cluster, o.bin)
	}
	return ok, err
}

// setUp starts the cluster and gives it the VIP set.
func setUp(ctx context.Context, o options, n *lab.Network, r *lab.Recorder, screen *screen) (*scenario.Stage, error) {
	screen.line("three hosts, two clients, two bridged segments; three coordinators, three agents, TTL %s", o.ttl)
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	cluster := n.NewCluster(lab.ClusterConfig{Bin: o.bin, TTL: o.ttl})
	for _, h := range n.Hosts {
		cluster.AgentLines(h, scenario.AgentLines(h))
	}
	began := lab.Now()
	if err := cluster.Start(ctx); err != nil {
		return nil, fmt.Errorf("start the cluster: %w", err)
	}
	screen.line("the cluster is ready after %.1f s", lab.Now().Sub(began).Seconds())
	vips := fmt.Sprintf("vips:\n  - name: %s\n    addresses: [%s/32, %s/128]\n    hosts:\n", setName, vip4, vip6)
	for i, h := range n.Hosts {
		vips += fmt.Sprintf("      - {host: %s, priority: %d}\n", h.Name, 150-10*i)
	}
	if err := cluster.Apply(ctx, vips); err != nil {
		return nil, err
	}
	s := &scenario.Stage{
		Cluster: cluster, Recorder: r, Set: setName, TTL: o.ttl, Say: screen.say,
		VIPs: []netip.Addr{netip.MustParseAddr(vip4), netip.MustParseAddr(vip6)},
	}
	if why := cluster.Weak(ctx); why != "" {
		s.Weak = true
		screen.line("the weaker fence: %s", why)
	}
	return s, s.Calm(ctx)
}

// perform runs the scenarios one after the other. It goes on after a broken
// promise and stops when the cluster cannot be brought back.
func perform(ctx context.Context, s *scenario.Stage, screen *screen, w *lab.StatusWatch, scenarios []scenario.Scenario) ([]scenario.Row, error) {
	var rows []scenario.Row
	for i, sc := range scenarios {
		limited, cancel := context.WithTimeout(ctx, time.Minute)
		screen.begin(i+1, len(scenarios), sc.Title)
		stop := screen.follow(s, w)
		row, err := s.Run(limited, sc)
		stop()
		cancel()
		if row.Scenario != "" {
			rows = append(rows, row)
			screen.end(row)
		}
		if err != nil {
			return rows, err
		}
	}
	return rows, nil
}

func allOK(rows []scenario.Row) bool {
	for _, r := range rows {
		if !r.OK {
			return false
		}
	}
	return len(rows) > 0
}

func writeJSON(file string, rows []scenario.Row) error {
	b, err := json.MarshalIndent(rows, "", "  ")
	if err != nil {
		return fmt.Errorf("write rows: %w", err)
	}
	if err := os.WriteFile(file, append(b, '\n'), 0o644); err != nil {
		return fmt.Errorf("write rows: %w", err)
	}
	return nil
}

// keep says how to reach the cluster and waits to be interrupted.
func keep(ctx context.Context, c *lab.Cluster, bin string) {
	user := ""
	if lab.InUserNamespace() {
		user = " --user --preserve-credentials"
	}
	enter := func(h *lab.Host) string { return fmt.Sprintf("nsenter --target %s%s --net", h.OutsideID(), user) }
	fmt.Printf("\nThe cluster goes on until Ctrl-C. In another shell:\n\n")
	fmt.Printf("  export HOLDFAST_SERVER=%s\n", c.Servers())
	fmt.Printf("  %s %s status\n\n", enter(c.Config().Operator), filepath.Join(bin, "coordctl"))
	for _, h := range c.Network.Hosts {
		fmt.Printf("  %-40s  # a shell on %s, %s\n", enter(h)+" --mount", h.Name, h.IPv4.Addr())
	}
	fmt.Printf("\n  logs: %s\n", c.Network.Dir)
	<-ctx.Done()
}
