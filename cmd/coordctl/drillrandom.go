package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"holdfast/test/lab/drill"
)

// drillRandom breaks the cluster by chance and reports whether no two hosts had
// an address.
func (t *tool) drillRandom(ctx context.Context, f drillFlags, plan *drill.Plan, g *drill.Ground) (ok bool, err error) {
	name := f.history
	if name == "" {
		name = filepath.Join(g.Dir, "history.jsonl")
	}
	file, err := os.Create(name)
	if err != nil {
		return false, fmt.Errorf("write history: %w", err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	fmt.Fprintf(t.talk, "seed %d, %.4g minutes, history in %s\n", f.seed, f.minutes, name)
	length := time.Duration(f.minutes * float64(time.Minute))
	o, err := g.Random(ctx, f.seed, length, drill.NewHistory(file, f.seed, plan, g.Weak))
	if t.format == "json" {
		data, jsonErr := json.MarshalIndent(o, "", "  ")
		fmt.Fprintln(t.out, string(data))
		err = errors.Join(err, jsonErr)
	} else {
		t.outcome(o)
	}
	fmt.Fprintf(t.talk, "history: %s\n", name)
	good := len(o.Violations) == 0 && o.NotCalm == 0
	if !good {
		fmt.Fprintf(t.talk, "again: coordctl drill -f %s --random --seed %d --minutes %.4g\n", f.file, f.seed, f.minutes)
	}
	return good, err
}

func (t *tool) outcome(o drill.Outcome) {
	total := 0
	var names []string
	for name, n := range o.Blows {
		total += n
		names = append(names, name)
	}
	slices.Sort(names)
	lines := []string{row("FAULT", "TIMES")}
	for _, name := range names {
		lines = append(lines, row(name, fmt.Sprint(o.Blows[name])))
	}
	columns(t.out, lines...)
	verdict := t.paint(green, "no overlap")
	if len(o.Violations) > 0 {
		verdict = t.paint(red, "OVERLAP")
	} else if o.NotCalm > 0 {
		verdict = t.paint(red, "NOT AT REST") + ", no overlap"
	}
	fmt.Fprintf(t.out, "\nseed %d: %s in %.0f s, %s, %s\n", o.Seed, verdict, o.Ran.Seconds(), plural(o.Steps, "step"), plural(total, "fault"))
	for _, v := range o.Violations {
		fmt.Fprintf(t.out, "  %s\n", v)
	}
	fmt.Fprintf(t.out, "longest time without an answer %.1f s; longest time in two address tables %.1f s; not at rest in time after %s\n",
		o.Longest.Seconds(), o.Table.Seconds(), plural(o.NotCalm, "step"))
}
