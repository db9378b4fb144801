package fsm

import (
	"bytes"
	"flag"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"holdfast/test/scripts"
)

var rewrite = flag.Bool("rewrite", false, "rewrite the expected output in testdata/*.txt and the golden files")

// TestScripts runs testdata/*.txt. A script is blocks, apart by blank lines:
// what is done, "----", and what came of it. Comments stand before a block.
// The lines of a block are the ops of one entry (see parseOp), or one of
//
//	configuration       a Raft configuration entry is applied
//	index N             the next entry has index N (a Raft log has other entries too)
//	actor NAME          who proposes the entries that follow
//	save NAME           keep a copy of the state, for "restore NAME"
//	raw JSON            apply these bytes
//	show                the state
//	events [FROM]       the audit ring
//	ring                how many rows it has, and which
//	repeat N            each op below is an entry, all of them N times
//
// A first line "atomically" makes the entry atomic. After every block the
// invariants are checked, and that clones and restored copies go the same way.
func TestScripts(t *testing.T) {
	scripts.Run(t, *rewrite, func(t *testing.T, text string) string { return newScript(t).run(text) })
}

// script is one run of a script.
type script struct {
	t     *testing.T
	state *State
	next  uint64 // index of the next entry
	actor string
	saved map[string]*State
}

func newScript(t *testing.T) *script {
	return &script{t: t, state: New(), next: 1, saved: make(map[string]*State)}
}

// run returns the script with the output that it really has.
func (s *script) run(text string) string {
	var out strings.Builder
	for block := range strings.SplitSeq(strings.TrimSpace(text), "\n\n") {
		head, _, _ := strings.Cut(block+"\n", "\n----\n")
		head = strings.TrimRight(head, "\n")
		var lines []string
		for line := range strings.Lines(head) {
			if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
				lines = append(lines, line)
			}
		}
		if out.Len() > 0 {
			out.WriteString("\n")
		}
		out.WriteString(head + "\n")
		if len(lines) > 0 {
			out.WriteString("----\n" + s.do(lines))
			s.verify(head)
		}
	}
	return out.String()
}

// do runs one block.
func (s *script) do(lines []string) string {
	word, rest, _ := strings.Cut(lines[0], " ")
	switch word {
	case "configuration":
		s.state.SetConfiguration(s.index())
		return fmt.Sprintf("%d: configuration\n", s.state.Configuration())
	case "index":
		n, err := strconv.ParseUint(rest, 10, 64)
		if err != nil {
			s.t.Fatalf("%q: %v", lines[0], err)
		}
		s.next = n
		return "ok\n"
	case "actor":
		s.actor = rest
		return "ok\n"
	case "save":
		s.saved[rest] = s.state.Clone()
		return "ok\n"
	case "raw":
		return s.apply([]byte(rest))
	case "show":
		return show(s.state)
	case "ring":
		all := s.state.Changes(0)
		return fmt.Sprintf("%d rows, %d to %d\n", len(all), all[0].Index, all[len(all)-1].Index)
	case "events":
		from, _ := strconv.ParseUint(rest, 10, 64)
		return rows(s.state.Changes(from))
	}
	if word == "repeat" {
		return s.repeat(rest, lines[1:])
	}
	data, err := s.entry(lines).Encode()
	if err != nil {
		return "cannot be proposed: " + err.Error() + "\n"
	}
	return s.apply(data)
}

// entry makes an entry of op lines.
func (s *script) entry(lines []string) Entry {
	entry := Entry{Version: EntryVersion, At: int64(s.next) * 1e9, Actor: s.actor}
	for _, line := range lines {
		if line == "atomically" {
			entry.Atomic = true
			continue
		}
		op, err := parseOp(line, s.saved)
		if err != nil {
			s.t.Fatalf("%q: %v", line, err)
		}
		entry.Ops = append(entry.Ops, op)
	}
	return entry
}

// repeat applies each line as an entry, all of them so often.
func (s *script) repeat(times string, lines []string) string {
	n, err := strconv.Atoi(times)
	if err != nil {
		s.t.Fatalf("repeat %q: %v", times, err)
	}
	first := s.next
	for range n {
		for _, line := range lines {
			if _, err := s.state.ApplyEntry(s.index(), s.entry([]string{line})); err != nil {
				s.t.Fatal(err)
			}
		}
	}
	return fmt.Sprintf("%d to %d\n", first, s.next-1)
}

func (s *script) index() uint64 {
	s.next++
	return s.next - 1
}

// apply applies bytes, and to a clone and to a restored copy as well.
func (s *script) apply(data []byte) string {
	s.t.Helper()
	index := s.index()
	before := s.state.Snapshot()
	clone := s.state.Clone()
	restored, err := Restore(before)
	if err != nil {
		s.t.Fatalf("restore before entry %d: %v", index, err)
	}
	for name, copied := range map[string]*State{"clone": clone, "restored copy": restored} {
		copied.Apply(index, data)
		if !bytes.Equal(s.state.Snapshot(), before) {
			s.t.Fatalf("entry %d: applied to the %s, and the original changed", index, name)
		}
	}
	result, err := s.state.Apply(index, data)
	if err != nil {
		if !bytes.Equal(s.state.Snapshot(), before) {
			s.t.Fatalf("entry %d: %v, and yet the state changed", index, err)
		}
		return "the replica stops: " + err.Error() + "\n"
	}
	for name, copied := range map[string]*State{"clone": clone, "restored copy": restored} {
		if !bytes.Equal(copied.Snapshot(), s.state.Snapshot()) {
			s.t.Fatalf("entry %d: the %s went another way:\n%s\nthan the original:\n%s", index, name, show(copied), show(s.state))
		}
	}
	out := fmt.Sprintf("%d:", result.Index)
	for i, op := range result.Ops {
		if op.Refusal != nil {
			out += fmt.Sprintf("\n  op %d refused, %s", i+1, op.Refusal)
		}
	}
	if len(result.Changes) == 0 {
		return out + "\n  no change\n"
	}
	for _, c := range result.Changes {
		out += "\n  " + row(c)
	}
	return out + "\n"
}

// verify checks what must hold after every block.
func (s *script) verify(block string) {
	s.t.Helper()
	if err := s.state.check(); err != nil {
		s.t.Fatalf("after\n%s\nthe state breaks an invariant: %v", block, err)
	}
	snapshot := s.state.Snapshot()
	restored, err := Restore(snapshot)
	if err != nil {
		s.t.Fatalf("after\n%s\n%v", block, err)
	}
	if !bytes.Equal(restored.Snapshot(), snapshot) {
		s.t.Fatalf("after\n%s\nthe restored state has another snapshot", block)
	}
}
