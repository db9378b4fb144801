package replica_test

import (
	"flag"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"holdfast/brokerd/replica"
	"holdfast/coordinator/lease"
	"holdfast/fsm/group"
	"holdfast/test/scripts"
)

var rewrite = flag.Bool("rewrite", false, "rewrite the expected output in testdata/*.txt")

// TestRules runs testdata/*.txt: what one replica does. A script is blocks, apart by blank
// lines: what it is told, "----", and what it answers. Comments stand before a block. The
// lines of a block are
//
//	boot SELF N [epoch=E] [inc=I] [owes] [lost] [log=BASE-END:E@O,...] [window=N] [cut=E:FROM-TO]
//	view INDEX [master=M] [epoch=E] [mine] [set=a,b] [version=V] [members=a,b:INC:BOOT] [mode=M] [min=N] [policy=P] [local] [wanted=M]
//	             what is not named stays as it was in the view before, but for mine
//	now MS, until MS                  the time, and the deadline; 0 and 1000 at first
//	from M append|contact|answer|ack|refusal NUMBER...
//	lead SIZE, admit, appended N, judge EPOCH END, readable, synced N, tick, owe, release, drain
//	next M LIMIT, sent M (what next said), life M, rewind M, acked M, add M, remove M
//	keep, trimmed BASE, loss [M:EPOCH:END...], show
func TestRules(t *testing.T) {
	scripts.Run(t, *rewrite, func(t *testing.T, text string) string {
		s := &script{t: t, until: 1000}
		var out strings.Builder
		for i, block := range strings.Split(strings.TrimSpace(text), "\n\n") {
			if i > 0 {
				out.WriteString("\n")
			}
			head, _, _ := strings.Cut(block+"\n", "\n----\n")
			head = strings.TrimRight(head, "\n")
			var answers []string
			for line := range strings.Lines(head) {
				if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
					answers = append(answers, s.do(strings.Fields(line))...)
				}
			}
			if len(answers) == 0 {
				answers = []string{"nothing"}
			}
			out.WriteString(head + "\n----\n" + strings.Join(answers, "\n") + "\n")
		}
		return out.String()
	})
}

type script struct {
	t          *testing.T
	r          *replica.Replica
	v          replica.View
	now, until int64 // ms
	batch      replica.Append
}

func (s *script) time(ms int64) lease.Time {
	return lease.Time(0).Add(time.Duration(ms) * time.Millisecond)
}

func (s *script) number(text string) uint64 {
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		s.t.Fatalf("%q is no number", text)
	}
	return n
}

// do is one line.
func (s *script) do(f []string) []string {
	args := make([]uint64, len(f))
	for i, a := range f {
		args[i], _ = strconv.ParseUint(a, 10, 64)
	}
	now, until := s.time(s.now), s.time(s.until)
	switch f[0] {
	case "boot":
		return s.boot(f)
	case "view":
		return s.view(f)
	case "now":
		s.now = int64(args[1])
	case "until":
		s.until = int64(args[1])
	case "from":
		return acts(s.r.Receive(f[1], s.message(f[2:]), now))
	case "lead":
		a, err := s.r.Lead(args[1], now, until)
		if err != nil {
			return []string{"error: " + err.Error()}
		}
		return acts(a)
	case "admit":
		return []string{fmt.Sprint("admit: ", s.r.Admit(now, until))}
	case "appended":
		s.r.Appended(args[1])
	case "judge":
		v, err := s.r.Judge(args[1], args[2], now, until)
		return []string{fmt.Sprintf("%s, %v", [...]string{"waiting", "acknowledged", "indefinite"}[v], err)}
	case "readable":
		return []string{fmt.Sprint("readable to ", s.r.Readable(now, until))}
	case "synced":
		return acts(s.r.Synced(args[1]))
	case "tick":
		return acts(s.r.Tick(now))
	case "owe":
		return acts(s.r.Owe())
	case "release":
		return acts(s.r.Release())
	case "drain":
		return acts(s.r.Drain())
	default:
		return s.master(f, args)
	}
	return nil
}

func (s *script) master(f []string, args []uint64) []string {
	switch f[0] {
	case "next":
		b, ok := s.r.Next(f[1], args[2])
		s.batch = b
		return []string{fmt.Sprintf("%s, %v", show(b), ok)}
	case "sent":
		s.r.Sent(f[1], s.batch)
	case "life":
		b, ok := s.r.Life(f[1])
		return []string{fmt.Sprintf("%s, %v", show(b), ok)}
	case "rewind":
		s.r.Rewind(f[1])
	case "acked":
		return []string{fmt.Sprintf("%s has acknowledged %d", f[1], s.r.Acked(f[1]))}
	case "add":
		return acts(s.r.Add(f[1]))
	case "remove":
		return acts(s.r.Remove(f[1]))
	case "keep":
		return []string{fmt.Sprint("keep from ", s.r.Keep())}
	case "trimmed":
		s.r.Trimmed(args[1])
	case "loss":
		var reported []replica.Reported
		for _, a := range f[1:] {
			p := strings.Split(a, ":")
			reported = append(reported, replica.Reported{Member: p[0], Epoch: s.number(p[1]), End: s.number(p[2])})
		}
		l := s.r.Loss(reported)
		return []string{fmt.Sprintf("lost %v, unknown %v", l.Lost, l.Unknown)}
	case "show":
		return []string{fmt.Sprintf("log %s, durable %d, confirm %d, leads %d, follows %d, %+v", logText(s.r.Log()), s.r.Durable(), s.r.Confirm(), s.r.Leads(), s.r.Follows(), s.r.Saved())}
	default:
		s.t.Fatalf("no word %q", f[0])
	}
	return nil
}

func (s *script) boot(f []string) []string {
	c := replica.Config{Self: f[1], Boot: s.number(f[2]), Window: 100, Slow: time.Second}
	for _, a := range f[3:] {
		k, v, _ := strings.Cut(a, "=")
		switch k {
		case "epoch":
			c.Saved.Epoch = s.number(v)
		case "inc":
			c.Saved.Incarnation = s.number(v)
		case "owes":
			c.Saved.Owes = true
		case "lost":
			c.Lost = true
		case "log":
			c.Log = s.log(v)
		case "window":
			c.Window = s.number(v)
		case "cut":
			c.Cuts = append(c.Cuts, s.cut(v))
		default:
			s.t.Fatalf("no word %q", a)
		}
	}
	s.v = replica.View{}
	r, a, err := replica.New(c)
	if err != nil {
		return []string{"error: " + err.Error()}
	}
	s.r = r
	return acts(a)
}

// log is BASE-END:EPOCH@OFFSET,...
func (s *script) log(text string) replica.Log {
	span, starts, _ := strings.Cut(text, ":")
	base, end, _ := strings.Cut(span, "-")
	l := replica.Log{Base: s.number(base), End: s.number(end)}
	for p := range strings.SplitSeq(starts, ",") {
		if e, o, ok := strings.Cut(p, "@"); ok {
			l.Starts = append(l.Starts, replica.Start{Epoch: s.number(e), Offset: s.number(o)})
		}
	}
	return l
}

func (s *script) cut(text string) replica.Range {
	e, span, _ := strings.Cut(text, ":")
	from, to, _ := strings.Cut(span, "-")
	return replica.Range{Epoch: s.number(e), From: s.number(from), To: s.number(to)}
}

func (s *script) view(f []string) []string {
	g := &s.v.Group
	g.Members, g.InSync = slices.Clone(g.Members), slices.Clone(g.InSync)
	if g.Settings.Mode == "" {
		g.Settings = syncOf(1, group.PolicyInSync)
	}
	s.v.Index, s.v.Mine = s.number(f[1]), false
	for _, a := range f[2:] {
		k, v, _ := strings.Cut(a, "=")
		switch k {
		case "master":
			g.Master = v
		case "epoch":
			g.Epoch = s.number(v)
		case "mine":
			s.v.Mine = true
		case "set":
			g.InSync = strings.Split(v, ",")
		case "version":
			g.Version = s.number(v)
		case "members":
			g.Members = s.members(v)
		case "mode":
			g.Settings.Mode = group.Mode(v)
		case "next":
			g.Next.Mode = group.Mode(v)
		case "min":
			g.Settings.MinInSync = int(s.number(v))
		case "policy":
			g.Settings.Policy = group.Policy(v)
		case "local":
			g.Settings.ReadLocal = true
		case "wanted":
			g.Wanted = v
		default:
			s.t.Fatalf("no word %q", a)
		}
	}
	return acts(s.r.View(s.v))
}

func (s *script) members(text string) []group.Member {
	var out []group.Member
	for m := range strings.SplitSeq(text, ",") {
		p := append(strings.Split(m, ":"), "0", "0")
		out = append(out, group.Member{ID: p[0], Incarnation: s.number(p[1]), Boot: s.number(p[2])})
	}
	return out
}

func (s *script) message(f []string) replica.Message {
	var n []uint64
	for _, a := range f[1:] {
		if v, err := strconv.ParseUint(a, 10, 64); err == nil {
			n = append(n, v)
		}
	}
	switch f[0] {
	case "append":
		return replica.Append{Epoch: n[0], Of: n[1], From: n[2], To: n[3], Confirm: n[4]}
	case "contact":
		c := replica.Contact{Epoch: n[0], Number: replica.Number{Boot: n[1], Count: n[2]}, Log: s.log(f[4])}
		for _, cut := range f[5:] {
			c.Cuts = append(c.Cuts, s.cut(cut))
		}
		return c
	case "answer":
		return replica.Answer{Epoch: n[0], Number: replica.Number{Boot: n[1], Count: n[2]}, At: n[3], Base: n[4], Reset: f[len(f)-1] == "reset"}
	case "ack":
		return replica.Ack{Epoch: n[0], Incarnation: n[1], End: n[2]}
	case "refusal":
		return replica.Refusal{Epoch: n[0]}
	}
	s.t.Fatalf("no message %q", f[0])
	return nil
}

func logText(l replica.Log) string {
	s := fmt.Sprintf("%d-%d:", l.Base, l.End)
	for i, e := range l.Starts {
		if i > 0 {
			s += ","
		}
		s += fmt.Sprintf("%d@%d", e.Epoch, e.Offset)
	}
	return s
}

// show is a message as a script has it.
func show(m replica.Message) string {
	switch m := m.(type) {
	case replica.Append:
		return fmt.Sprintf("append %d %d %d %d %d", m.Epoch, m.Of, m.From, m.To, m.Confirm)
	case replica.Contact:
		return strings.TrimSpace(fmt.Sprintf("contact %d %d %d %s %s", m.Epoch, m.Number.Boot, m.Number.Count, logText(m.Log), strings.Trim(fmt.Sprint(m.Cuts), "[]")))
	case replica.Answer:
		return strings.TrimSpace(fmt.Sprintf("answer %d %d %d %d %d %s", m.Epoch, m.Number.Boot, m.Number.Count, m.At, m.Base, map[bool]string{true: "reset"}[m.Reset]))
	case replica.Ack:
		return fmt.Sprintf("ack %d %d %d", m.Epoch, m.Incarnation, m.End)
	}
	return fmt.Sprintf("refusal %d", m.(replica.Refusal).Epoch)
}

func acts(list []replica.Act) []string {
	var out []string
	for _, a := range list {
		switch a := a.(type) {
		case replica.Store:
			out = append(out, fmt.Sprintf("store %+v", a.Saved))
		case replica.Send:
			out = append(out, fmt.Sprintf("send %s: %s", a.To, show(a.Message)))
		case replica.Propose:
			out = append(out, fmt.Sprintf("propose %s %+v", strings.TrimPrefix(fmt.Sprintf("%T", a.Command), "group."), a.Command))
		default:
			out = append(out, strings.ToLower(strings.TrimPrefix(fmt.Sprintf("%T %+v", a, a), "replica.")))
		}
	}
	return out
}
