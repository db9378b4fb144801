package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"holdfast/test/lab/scenario"
)

// table writes the final table.
func (s *screen) table(rows []scenario.Row) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fmt.Fprintln(s.out)
	writeTable(s.out, rows)
}

func writeTable(out io.Writer, rows []scenario.Row) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	head := []string{"FAULT", "GAP", "PROMISED", "OVERLAP", "PROMISED", "TAKEOVER", "FROM -> TO", "STALL", ""}
	fmt.Fprintln(w, strings.Join(head, "\t"))
	for _, r := range rows {
		verdict := "ok"
		if !r.OK {
			verdict = "NOT AS PROMISED"
		}
		hosts := r.From + " -> " + r.To
		if r.From == r.To {
			hosts = r.From + " stays"
		}
		fmt.Fprintln(w, strings.Join([]string{
			r.Title, figure(r.GapMS), promised(r.PromiseGapMS), figure(r.OverlapMS), promised(r.PromiseOverlapMS),
			figure(r.TakeoverMS), hosts, figure(r.StallMS), verdict,
		}, "\t"))
	}
	w.Flush()
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

// summary says what the figures mean and whether all is as promised.
func (s *screen) summary(rows []scenario.Row, took time.Duration) {
	kept, lingering := 0, false
	for _, r := range rows {
		if r.OK {
			kept++
		}
		lingering = lingering || r.PromiseOverlapMS > 0
	}
	s.line("\ngap: longest time without an answer on the surviving side, probes each 2 ms; 0: no probe was lost.")
	s.line("overlap: two hosts answered for the address or claimed it on the wire; what only stands in a kernel's table is not seen by anybody.")
	s.line("stall: how late the demo's own ticks were at worst; a gap may exceed its promise by what the machine itself was held up.")
	if lingering {
		s.line("here the kernel allows no eBPF: the weaker fence cannot promise to the millisecond when a killed or frozen agent's address\nfalls silent. As root the demo uses the real one. Hence the promise of an overlap there.")
	}
	verdict := s.paint("32", "every promise kept")
	if kept < len(rows) || len(rows) == 0 {
		verdict = s.paint("31", "not every promise was kept")
	}
	s.line("%d of %d as promised in %.0f s: %s", kept, len(rows), took.Seconds(), verdict)
}
