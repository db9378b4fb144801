package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	pb "holdfast/coordinator/api/holdfastpb"
	"holdfast/test/lab"
	"holdfast/test/lab/drill"
	"holdfast/test/lab/scenario"
)

// drillFlags are the flags of `coordctl drill`.
type drillFlags struct {
	file, set, bin, logs string
	ttl                  time.Duration
	list, random         bool
	seed                 uint64
	minutes              float64
	history              string
}

// usualDrill are the scenarios that run when none is named: what a holder meets
// in a year.
func usualDrill() []string {
	return []string{"power-off", "vipagent-killed", "agent-killed", "freeze", "partition", "heal", "cut-out", "cut-in", "leader-killed", "drain"}
}

func (t *tool) drillCommand() *cobra.Command {
	var f drillFlags
	cmd := &cobra.Command{
		Use:   "drill [SCENARIO...]",
		Short: "Break a copy of your VIP sets in a lab on this machine, and measure",
		Long: `Break a copy of your VIP sets in a lab on this machine, and measure what a client sees.

Nothing of the running cluster is touched or asked. The lab is made of network namespaces: as many hosts as the file
names (at least three), real coordinators and agents, two segments. Sets keep their names, priorities and numbers of
addresses. Programs are those beside coordctl, or in --bin. It needs root, or a kernel that lets you make user
namespaces; without root the kernel allows no eBPF, and what is drilled is the weaker nft fence.

For each scenario it prints the longest time without an answer (gap), the time in which two hosts answered or claimed
an address on the wire (overlap), the time in which it stood in two address tables, what is promised, and how long the
machine itself stood still. The exit code is 1 if a promise was broken.

--random runs faults by chance, several at a time, until --minutes are over or two hosts have an address. The same
--seed gives the same sequence. What happened is written to --history, one JSON object a line.`,
		Example: `  coordctl drill -f vips.yaml                        # the usual scenarios
  coordctl drill -f vips.yaml power-off freeze-15s   # these
  coordctl drill --list
  coordctl drill -f vips.yaml --random --minutes 10 --seed 7`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := lab.Become(); err != nil {
				return err
			}
			if f.list {
				t.listDrills()
				return nil
			}
			if err := required(cmd, "file"); err != nil {
				return err
			}
			if f.random && !cmd.Flags().Changed("seed") {
				f.seed = rand.Uint64N(1 << 32)
			}
			return t.drill(cmd.Context(), f, args)
		},
		ValidArgs: drillNames(),
	}
	flags := cmd.Flags()
	flags.StringVarP(&f.file, "file", "f", "", "YAML file of VIP sets (-: standard input)")
	flags.StringVar(&f.set, "set", "", "the set whose holder is attacked (default: the first that can move)")
	flags.StringVar(&f.bin, "bin", "", "directory of coordinator, vipagent and coordctl (default: that of coordctl)")
	flags.StringVar(&f.logs, "logs", "", "directory for the daemons' logs (default: a new one, removed when all is well)")
	flags.DurationVar(&f.ttl, "ttl", time.Second, "length of the lease")
	flags.BoolVar(&f.list, "list", false, "list the scenarios, and the faults of --random")
	flags.BoolVar(&f.random, "random", false, "faults by chance")
	flags.Uint64Var(&f.seed, "seed", 0, "of --random (default: a new one, which is printed)")
	flags.Float64Var(&f.minutes, "minutes", 5, "length of --random")
	flags.StringVar(&f.history, "history", "", "file for the history of --random (default: history.jsonl beside the logs)")
	return cmd
}

func drillNames() []string {
	var names []string
	for _, s := range append(scenario.All(), scenario.Campaign()...) {
		names = append(names, s.Name)
	}
	return names
}

func (t *tool) listDrills() {
	usual := make(map[string]bool)
	for _, name := range usualDrill() {
		usual[name] = true
	}
	rows := []string{row("SCENARIO", "USUAL", "WHAT")}
	for _, s := range append(scenario.All(), scenario.Campaign()...) {
		mark := ""
		if usual[s.Name] {
			mark = "yes"
		}
		rows = append(rows, row(s.Name, mark, s.Title))
	}
	rows = append(rows, "", row("FAULT OF --random", "", "WHAT"))
	for _, f := range drill.Faults() {
		rows = append(rows, row(f.User, "", f.Lab))
	}
	columns(t.out, rows...)
}

func (t *tool) drill(ctx context.Context, f drillFlags, names []string) error {
	scenarios, err := drillScenarios(f, names)
	if err != nil {
		return usageError(err)
	}
	sets, err := drillSets(f.file)
	if err != nil {
		return err
	}
	plan, err := drill.MakePlan(sets, f.set)
	if err != nil {
		return usageError(err)
	}
	if f.bin, err = programs(f.bin); err != nil {
		return usageError(err)
	}
	if err := lab.Enter(); err != nil {
		return err
	}
	t.tellPlan(plan)
	ground, err := drill.Start(ctx, drill.Config{Bin: f.bin, Dir: f.logs, TTL: f.ttl, Plan: plan, Say: t.say})
	if err != nil {
		return err
	}
	ok := false
	if f.random {
		ok, err = t.drillRandom(ctx, f, plan, ground)
	} else {
		ok, err = t.drillNamed(ctx, scenarios, ground)
	}
	err = errors.Join(err, ground.Close())
	if ok && err == nil && f.logs == "" && !f.random {
		return ground.Tidy()
	}
	fmt.Fprintln(t.talk, "logs of the daemons:", ground.Dir)
	if err == nil && !ok {
		err = &codedError{code: exitError}
	}
	return err
}

func (t *tool) say(format string, args ...any) {
	fmt.Fprintf(t.talk, "  "+format+"\n", args...)
}

func drillScenarios(f drillFlags, names []string) ([]scenario.Scenario, error) {
	if f.random && len(names) > 0 {
		return nil, fmt.Errorf("--random takes no scenarios")
	}
	if len(names) == 0 {
		names = usualDrill()
	}
	var list []scenario.Scenario
	for _, name := range names {
		s, ok := scenario.ByName(name)
		if !ok {
			return nil, fmt.Errorf("no scenario %q; `coordctl drill --list` names them", name)
		}
		list = append(list, s)
	}
	return list, nil
}

// setsVariable carries a file that was read from standard input into the lab:
// the program starts again there, and can read it only once.
const setsVariable = "HOLDFAST_DRILL_SETS"

func drillSets(name string) ([]*pb.VIPSet, error) {
	if name != "-" {
		return readSetFile(name)
	}
	text := os.Getenv(setsVariable)
	if text == "" {
		b, err := io.ReadAll(os.Stdin)
		if err != nil {
			return nil, fmt.Errorf("read VIP file: %w", err)
		}
		text = string(b)
		if err := os.Setenv(setsVariable, text); err != nil {
			return nil, fmt.Errorf("keep VIP file: %w", err)
		}
	}
	return parseSetFile("standard input", strings.NewReader(text))
}

// programs finds the directory of the daemons.
func programs(dir string) (string, error) {
	if dir == "" {
		exe, err := os.Executable()
		if err != nil {
			return "", fmt.Errorf("find coordctl itself: %w", err)
		}
		dir = filepath.Dir(exe)
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("find programs: %w", err)
	}
	for _, program := range []string{"coordinator", "vipagent", "coordctl"} {
		if _, err := os.Stat(filepath.Join(dir, program)); err != nil {
			return "", fmt.Errorf("%s is not in %s: --bin says where the programs are", program, dir)
		}
	}
	return dir, nil
}

// tellPlan says what stands for what.
func (t *tool) tellPlan(p *drill.Plan) {
	var hosts []string
	for _, h := range p.Hosts {
		hosts = append(hosts, h.User+" = "+h.Lab)
	}
	fmt.Fprintf(t.talk, "drill of set %s: %s\n", p.Set, strings.Join(hosts, ", "))
	const most = 8
	for i, a := range p.Addresses {
		if i == most {
			fmt.Fprintf(t.talk, "  and %s more\n", plural(len(p.Addresses)-most, "address"))
			break
		}
		fmt.Fprintf(t.talk, "  %s = %s\n", a.User, a.Lab)
	}
}

// drillNamed runs scenarios and reports whether every promise was kept.
func (t *tool) drillNamed(ctx context.Context, scenarios []scenario.Scenario, g *drill.Ground) (bool, error) {
	var rows []scenario.Row
	ok := true
	err := g.Run(ctx, scenarios, func(r scenario.Row) {
		rows = append(rows, r)
		ok = ok && r.OK
		verdict := "as promised"
		if !r.OK {
			verdict = "NOT AS PROMISED: " + r.Why
		}
		fmt.Fprintf(t.talk, "%s: %s\n", r.Title, verdict)
	})
	if t.format == "json" {
		data, jsonErr := json.MarshalIndent(rows, "", "  ")
		fmt.Fprintln(t.out, string(data))
		return ok, errors.Join(err, jsonErr)
	}
	t.drillTable(rows)
	return ok, err
}

func (t *tool) drillTable(rows []scenario.Row) {
	lines := []string{row("FAULT", "GAP", "PROMISED", "OVERLAP", "PROMISED", "TABLE", "PROMISED", "FROM -> TO", "STALL", "")}
	for _, r := range rows {
		verdict := t.paint(green, "ok")
		if !r.OK {
			verdict = t.paint(red, "NOT AS PROMISED")
		}
		hosts := r.From + " -> " + r.To
		if r.From == r.To {
			hosts = r.From + " stays"
		}
		lines = append(lines, row(r.Title, figure(r.GapMS), promised(r.PromiseGapMS), figure(r.OverlapMS), promised(r.PromiseOverlapMS),
			figure(r.KernelOverlapMS), promised(r.PromiseTableMS), hosts, figure(r.StallMS), verdict))
	}
	columns(t.out, lines...)
}

// figure writes milliseconds; what two stamps may be apart is written as 0.
func figure(ms float64) string {
	switch {
	case ms < 0.1:
		return "0"
	case ms < 10:
		return fmt.Sprintf("%.1f ms", ms)
	}
	return fmt.Sprintf("%.0f ms", ms)
}

func promised(ms float64) string {
	switch {
	case ms < 0:
		return "-"
	case ms == 0:
		return "0"
	}
	return fmt.Sprintf("<= %.0f ms", ms)
}
