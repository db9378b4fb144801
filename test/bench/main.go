// Command bench measures what the README promises, on a network of its own:
// the same faults on Holdfast and on keepalived, the faults of a holder, a
// takeover of a thousand virtual IPs, and the cost of many agents. It prints
// markdown tables; each figure has beside it how long the machine held the
// measurement itself up.
//
// It needs neither root nor any program but those that `make build` makes, and
// keepalived for the part that compares.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"holdfast/test/lab"
)

// parts are the measurements in the order of the report.
var parts = []struct {
	name string
	run  func(context.Context, *report) error
}{
	{"sidebyside", measureSideBySide},
	{"faults", measureFaults},
	{"quick", measureQuickProfile},
	{"vips", measureManyVIPs},
	{"agents", measureManyAgents},
}

type options struct {
	bin, out, logs  string
	only, scenarios string
	runs, lossRuns  int
	agents          int
	otherRuns       int
	frozen          time.Duration
	check           bool
}

func main() { os.Exit(run(os.Args[1:])) }

func run(args []string) int {
	if os.Getenv(roleVariable) == roleCrowd {
		return crowdMain(args)
	}
	o, err := parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		fmt.Fprintln(os.Stderr, "bench:", err)
		return 2
	}
	if err := lab.Enter(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		return 1
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := measure(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		return 1
	}
	return 0
}

func parse(args []string) (options, error) {
	var o options
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	exe, err := os.Executable()
	if err != nil {
		return o, fmt.Errorf("find this program: %w", err)
	}
	f.StringVar(&o.bin, "bin", filepath.Dir(exe), "directory of the built programs")
	f.StringVar(&o.out, "out", "", "write the report to this file as well")
	f.StringVar(&o.logs, "logs", "", "directory for the daemons' logs (default: temporary ones, removed when all is well)")
	f.StringVar(&o.only, "only", "", "parts to measure, separated by commas: sidebyside, faults, quick, vips, agents (default: all)")
	f.StringVar(&o.scenarios, "scenarios", "", "measure only these faults, separated by commas")
	f.IntVar(&o.runs, "runs", 5, "runs of each fault")
	f.IntVar(&o.lossRuns, "loss-runs", 10, "runs of random loss, 20 s each")
	f.IntVar(&o.otherRuns, "other-runs", 3, "runs of each fault but power-off beside keepalived")
	f.DurationVar(&o.frozen, "frozen", 6*time.Second, "how long a daemon stays frozen, and packets get lost, beside keepalived")
	f.BoolVar(&o.check, "check", false, "exit with 1 if what is promised beside keepalived does not hold")
	f.IntVar(&o.agents, "agents", 500, "simulated agents")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if o.bin, err = filepath.Abs(o.bin); err != nil {
		return o, fmt.Errorf("find programs: %w", err)
	}
	for _, program := range []string{"coordinator", "vipagent", "coordctl"} {
		if _, err := os.Stat(filepath.Join(o.bin, program)); err != nil {
			return o, fmt.Errorf("find %s: %w (make build makes it; --bin says where it is)", program, err)
		}
	}
	return o, nil
}

// report is where the figures go, as they are measured.
type report struct {
	options
	out    io.Writer
	broken []string // what was promised and does not hold
}

func (r *report) line(format string, args ...any) { fmt.Fprintf(r.out, format+"\n", args...) }

// talk tells a person how far it is.
func (r *report) talk(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }

// given repeats the arguments that the report was made with.
func given(args []string) string {
	if len(args) == 0 {
		return ""
	}
	return fmt.Sprintf(" (BENCH_ARGS='%s')", strings.Join(args, " "))
}

func measure(ctx context.Context, o options) (err error) {
	r := &report{options: o, out: os.Stdout}
	if o.out != "" {
		file, err := os.Create(o.out)
		if err != nil {
			return fmt.Errorf("open report: %w", err)
		}
		defer func() { err = errors.Join(err, file.Close()) }()
		r.out = io.MultiWriter(os.Stdout, file)
	}
	r.line("# Measurements\n\n%s Made with `make bench`%s.", machine(), given(os.Args[1:]))
	wanted := strings.FieldsFunc(o.only, func(c rune) bool { return c == ',' })
	for _, p := range parts {
		if len(wanted) > 0 && !slices.Contains(wanted, p.name) {
			continue
		}
		if err := p.run(ctx, r); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
	}
	if o.check && len(r.broken) > 0 {
		return fmt.Errorf("not held:\n  %s", strings.Join(r.broken, "\n  "))
	}
	return nil
}
