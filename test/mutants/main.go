// Command mutants proves that the checks of this project see. Each file *.patch
// beside it plants one fault in a copy of the tree, and says which checks must find
// it. A fault that nothing finds is a check that has gone blind.
//
//	make mutants                                 all of them
//	make mutants MUTANTS_ARGS='-only epoch'      those whose name or header says so
//	make mutants MUTANTS_ARGS='-all'             each check, also after the first find
//
// A patch is a unified diff (git apply takes it too) below a header of lines
//
//	fault: what was planted, in one line
//	rule: what it breaks
//	find: a command that must fail; several are tried in their order
//
// A patch that does not apply or does not compile is an error and no find, and so is
// a check that fails without any patch, or that does not end.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

func main() {
	var o options
	flag.StringVar(&o.root, "root", ".", "the tree")
	flag.StringVar(&o.only, "only", "", "only the mutants whose name or header has this text")
	flag.StringVar(&o.skip, "skip", "", "leave out the mutants whose name or header has this text")
	flag.StringVar(&o.check, "check", "", "of each mutant only the checks that have this text")
	flag.BoolVar(&o.all, "all", false, "run every check of a mutant, also after one has found it")
	flag.BoolVar(&o.trust, "trust", false, "do not run the checks on the tree without a fault first")
	flag.IntVar(&o.workers, "workers", max(1, runtime.NumCPU()/2), "mutants at the same time")
	flag.DurationVar(&o.limit, "limit", 10*time.Minute, "how long one check may take")
	flag.BoolVar(&o.verbose, "v", false, "show what the checks say")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	o.out = os.Stdout
	ok, err := run(ctx, o)
	if err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
	}
	if err != nil || !ok {
		stop()
		os.Exit(1)
	}
}

type options struct {
	root, only, skip, check string
	all, trust, verbose     bool
	workers                 int
	limit                   time.Duration
	out                     io.Writer
}

// chooses says whether a mutant is to be judged, and leaves it the checks that are to
// be run.
func (o options) chooses(m *mutant) bool {
	text := m.name + "\n" + m.header()
	if !strings.Contains(text, o.only) || o.skip != "" && strings.Contains(text, o.skip) {
		return false
	}
	m.checks = slices.DeleteFunc(m.checks, func(c string) bool { return !strings.Contains(c, o.check) })
	return len(m.checks) > 0
}

// result is what became of one mutant.
type result struct {
	mutant
	found   bool
	by      string // the check
	where   string // seed, depth, or the test
	took    time.Duration
	missed  []string // checks that were run and did not find it
	trouble string   // why it cannot be judged
}

// run judges all mutants and says whether each was found.
func run(ctx context.Context, o options) (ok bool, err error) {
	all, err := load(filepath.Join(o.root, "test/mutants"))
	if err != nil {
		return false, err
	}
	var chosen []mutant
	for _, m := range all {
		if o.chooses(&m) {
			chosen = append(chosen, m)
		}
	}
	if len(chosen) == 0 {
		return false, fmt.Errorf("no mutant of %d has %q in its name or header", len(all), o.only)
	}
	fmt.Fprintf(o.out, "%d mutants, %d at the same time\n", len(chosen), o.workers)
	trees := make([]*tree, min(o.workers, len(chosen)))
	for i := range trees {
		if trees[i], err = copyTree(ctx, o.root); err != nil {
			return false, err
		}
		defer trees[i].remove()
	}
	if !o.trust {
		if err := baseline(ctx, o, trees, chosen); err != nil {
			return false, err
		}
	}
	results := judgeAll(ctx, o, trees, chosen)
	if err := ctx.Err(); err != nil {
		return false, err
	}
	return report(o.out, results), nil
}

// baseline runs each check once on the tree as it is: one that fails there would find
// everything.
func baseline(ctx context.Context, o options, trees []*tree, mutants []mutant) error {
	var checks []string
	seen := make(map[string]bool)
	for _, m := range mutants {
		for _, c := range m.checks {
			if !seen[c] {
				seen[c] = true
				checks = append(checks, c)
			}
		}
	}
	var mu sync.Mutex
	var bad []string
	done := 0
	each(trees, len(checks), func(t *tree, i int) {
		began := time.Now()
		v := t.check(ctx, checks[i], o.limit)
		mu.Lock()
		defer mu.Unlock()
		done++
		fmt.Fprintf(o.out, "[%d/%d] without a fault: %s: %s, %.1f s\n", done, len(checks), checks[i], v.kind, time.Since(began).Seconds())
		if v.kind != passed {
			bad = append(bad, fmt.Sprintf("%s: %s\n%s", checks[i], v.kind, v.output))
		}
	})
	if len(bad) > 0 && ctx.Err() == nil {
		return fmt.Errorf("without a fault this is not well:\n%s", strings.Join(bad, "\n"))
	}
	return ctx.Err()
}

func judgeAll(ctx context.Context, o options, trees []*tree, mutants []mutant) []result {
	results := make([]result, len(mutants))
	var mu sync.Mutex
	done := 0
	each(trees, len(mutants), func(t *tree, i int) {
		r := t.judge(ctx, o, mutants[i])
		mu.Lock()
		defer mu.Unlock()
		results[i] = r
		done++
		fmt.Fprintf(o.out, "[%d/%d] %s\n", done, len(mutants), r)
	})
	return results
}

// each calls f for 0 to n-1, as many at a time as there are trees.
func each(trees []*tree, n int, f func(t *tree, i int)) {
	var wg sync.WaitGroup
	next := make(chan int)
	for _, t := range trees {
		wg.Go(func() {
			for i := range next {
				f(t, i)
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	wg.Wait()
}

// judge plants one fault, runs the checks, and takes it out again.
func (t *tree) judge(ctx context.Context, o options, m mutant) result {
	r := result{mutant: m}
	began := time.Now()
	defer func() { r.took = time.Since(began) }()
	undo, err := t.apply(m)
	if err != nil {
		r.trouble = err.Error()
		return r
	}
	defer undo()
	for _, c := range m.checks {
		started := time.Now()
		v := t.check(ctx, c, o.limit)
		if o.verbose {
			fmt.Fprintf(o.out, "--- %s: %s: %s\n%s\n", m.name, c, v.kind, v.output)
		}
		switch v.kind {
		case passed:
			r.missed = append(r.missed, c)
		case failed:
			if !r.found {
				r.found, r.by, r.where = true, c, v.where
			} else {
				r.by += fmt.Sprintf("; %s (%s)", c, v.where)
			}
			r.took = time.Since(started)
			if !o.all {
				return r
			}
		case broken, endless:
			r.trouble = fmt.Sprintf("%s: %s\n%s", c, v.kind, v.output)
			return r
		}
	}
	return r
}

// String is one line of progress.
func (r result) String() string {
	switch {
	case r.trouble != "":
		return r.name + ": TROUBLE: " + r.trouble
	case !r.found:
		return r.name + ": NOT FOUND by " + strings.Join(r.missed, "; ")
	}
	return fmt.Sprintf("%s: found by %s, %s, %.1f s", r.name, r.by, r.where, r.took.Seconds())
}

// report prints the table and says whether all were found.
func report(w io.Writer, results []result) bool {
	var bad []string
	wide := 0
	for _, r := range results {
		wide = max(wide, len(r.name))
	}
	fmt.Fprintf(w, "\n%-*s  %7s  %-28s  %s\n", wide, "mutant", "seconds", "where", "found by")
	for _, r := range results {
		by, where := strings.ReplaceAll(r.by, "go test ./", ""), r.where
		switch {
		case r.trouble != "":
			by, where = strings.SplitN(r.trouble, "\n", 2)[0], "-"
			bad = append(bad, r.name)
		case !r.found:
			by, where = "NOTHING", "-"
			bad = append(bad, r.name)
		case len(r.missed) > 0:
			by += " (not by " + strings.ReplaceAll(strings.Join(r.missed, "; "), "go test ./", "") + ")"
		}
		fmt.Fprintf(w, "%-*s  %7.1f  %-28s  %s\n", wide, r.name, r.took.Seconds(), where, by)
	}
	if len(bad) > 0 {
		fmt.Fprintf(w, "\n%d of %d mutants were not found: %s\n", len(bad), len(results), strings.Join(bad, ", "))
		return false
	}
	fmt.Fprintf(w, "\nall %d mutants were found\n", len(results))
	return true
}
