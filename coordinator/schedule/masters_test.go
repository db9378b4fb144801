package schedule

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"holdfast/fsm"
	"holdfast/fsm/group"
)

// doGroup runs the commands of broker groups. A broker is on a host of its own name, so
// silent, live and expire serve for both:
//
//	broker NAME...      another session of each broker; the newest is "NAME"
//	group NAME MEMBER=PRIORITY... [min=N] [policy=P] [mode=M]
//	configure NAME [min=N] [policy=P] [mode=M]
//	report GROUP BROKER epoch=N end=N [unfit=WHY]
//	recall GROUP BROKER its master is asked to release in favour of the broker
//	leave GROUP         its master releases it
//	shrink GROUP BROKER return GROUP BROKER     delete-group GROUP
//	master GROUP        explains
func (w *world) doGroup(out *strings.Builder, cmd string, args []string) error {
	switch cmd {
	case "broker":
		for _, name := range args {
			op := fsm.OpenSession{Host: name, TTL: time.Second, Secret: [32]byte{1},
				Broker: &fsm.Broker{Name: name, Client: name + ":8081", Replication: name + ":7962"}}
			if err := w.apply(op); err != nil {
				return err
			}
			delete(w.silent, name)
		}
		return nil
	case "group":
		op, err := parseGroup(args)
		if err != nil {
			return err
		}
		return w.apply(op)
	case "configure":
		op, err := parseGroup(args)
		return errors.Join(err, w.apply(fsm.ConfigureGroup{Group: op.Group, Settings: op.Settings}))
	case "delete-group":
		return w.apply(fsm.DeleteGroup{Group: args[0]})
	case "master":
		return w.explainMaster(out, args[0])
	}
	g, ok := w.state.Group(strings.Join(args[:min(1, len(args))], ""))
	if !ok {
		return fmt.Errorf("unknown command or group")
	}
	return w.doInGroup(g, cmd, args[1:])
}

func (w *world) doInGroup(g *fsm.Group, cmd string, args []string) error {
	r := g.Record
	switch cmd {
	case "leave":
		return w.apply(fsm.ReleaseGroup{Group: g.Name, Session: g.Session, Epoch: fsm.Epoch(r.Epoch)})
	case "recall":
		return w.apply(fsm.RecallGroup{Group: g.Name, Epoch: fsm.Epoch(r.Epoch), To: args[0]})
	case "shrink":
		return w.apply(fsm.ShrinkInSync{Group: g.Name, Session: g.Session, Shrink: group.Shrink{Epoch: r.Epoch, Version: r.Version, Member: args[0]}})
	case "return":
		sessions := w.brokers(args[0])
		m, _ := r.Member(args[0])
		return w.apply(fsm.ReturnReplica{Group: g.Name, Session: sessions[len(sessions)-1].ID, Incarnation: m.Incarnation, Boot: 1})
	case "report":
		said := Replica{}
		for _, arg := range args[1:] {
			key, value, _ := strings.Cut(arg, "=")
			n, err := strconv.ParseUint(value, 10, 64)
			switch {
			case key == "unfit":
				said.Unfit = value
			case err != nil:
				return err
			case key == "epoch":
				said.Epoch = n
			case key == "end":
				said.End = n
			}
		}
		w.reports[g.Name+" "+args[0]] = said
		return nil
	}
	return fmt.Errorf("unknown command")
}

func parseGroup(args []string) (fsm.PutGroup, error) {
	op := fsm.PutGroup{Group: args[0], Settings: group.Settings{Mode: group.Sync, MinInSync: 1, Policy: group.PolicyInSync}}
	for _, arg := range args[1:] {
		key, value, _ := strings.Cut(arg, "=")
		switch key {
		case "policy":
			op.Settings.Policy = group.Policy(value)
			continue
		case "mode":
			op.Settings.Mode = group.Mode(value)
			continue
		}
		n, err := strconv.Atoi(value)
		if err != nil {
			return op, err
		}
		if key == "min" {
			op.Settings.MinInSync = n
		} else {
			op.Members = append(op.Members, fsm.GroupMember{ID: key, Priority: n})
		}
	}
	return op, nil
}

// brokers returns the open sessions of a broker.
func (w *world) brokers(name string) (out []*fsm.Session) {
	for _, s := range w.state.Brokers() {
		if s.Broker.Name == name {
			out = append(out, s)
		}
	}
	return out
}

func (w *world) explainMaster(out *strings.Builder, name string) error {
	e, err := ExplainMaster(w.input(), name)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%s: %s\n", e.Group, e.Decision)
	for _, m := range e.Members {
		mark := "no "
		if m.Eligible {
			mark = "yes"
		}
		fmt.Fprintf(out, "  %s %s: %s\n", m.Broker, mark, m.Reason)
	}
	return nil
}

func TestExplainUnknownGroup(t *testing.T) {
	if _, err := ExplainMaster(Input{State: fsm.New()}, "orders"); !errors.Is(err, ErrUnknownGroup) {
		t.Error(err)
	}
}

// TestExplainMasterChangesNothing: what an operator asks must not begin a wait.
func TestExplainMasterChangesNothing(t *testing.T) {
	w := newWorld()
	for _, line := range []string{"broker b1 b2", "group orders b1=1 b2=1 policy=unclean", "step", "shrink orders b2", "expire b1"} {
		if err := w.do(new(strings.Builder), strings.Fields(line)); err != nil {
			t.Fatal(line, err)
		}
	}
	for range 3 {
		w.now += UncleanAfter
		if e, err := ExplainMaster(w.input(), "orders"); err != nil || e.Next != "" {
			t.Fatalf("%+v, %v", e, err)
		}
	}
}
