package fsm

import (
	"fmt"
	"io"
	"strconv"
	"strings"

	"holdfast/fsm/group"
)

// groupOp reads the ops of broker groups and topics.
func (w *words) groupOp(verb string) (Op, error) {
	switch verb {
	case "put-group":
		op := PutGroup{Settings: w.settings(), Group: w.next(), Cause: w.cause}
		for _, text := range strings.FieldsFunc(w.next(), func(r rune) bool { return r == ',' }) {
			id, priority, _ := strings.Cut(text, ":")
			n, err := strconv.Atoi(priority)
			if err != nil {
				return nil, err
			}
			op.Members = append(op.Members, GroupMember{id, n})
		}
		return op, nil
	case "configure":
		return ConfigureGroup{Settings: w.settings(), Group: w.next(), Cause: w.cause}, nil
	case "delete-group":
		return DeleteGroup{w.next(), w.cause}, nil
	case "grant-group":
		return GrantGroup{Unclean: w.flag("unclean"), Operator: w.flag("operator"), Group: w.next(), Session: SessionID(w.number("session")), Cause: w.cause}, nil
	case "release-group":
		return ReleaseGroup{w.next(), SessionID(w.number("session")), Epoch(w.number("epoch")), w.cause}, nil
	case "recall-group":
		return RecallGroup{w.next(), Epoch(w.number("epoch")), w.text("to"), w.cause}, nil
	case "grow":
		return GrowInSync{w.next(), SessionID(w.number("session")),
			group.Grow{Epoch: w.number("epoch"), Version: w.number("version"), Member: w.next(), Incarnation: w.number("incarnation")}}, nil
	case "shrink":
		return ShrinkInSync{w.next(), SessionID(w.number("session")),
			group.Shrink{Epoch: w.number("epoch"), Version: w.number("version"), Member: w.next()}}, nil
	case "return":
		return ReturnReplica{w.next(), SessionID(w.number("session")), w.number("incarnation"), w.number("boot"), w.cause}, nil
	case "put-topic":
		return PutTopic{Ensure: w.flag("ensure"), Topic: w.next(), Queues: int(w.number("")), Cause: w.cause}, nil
	case "delete-topic":
		return DeleteTopic{w.next(), w.cause}, nil
	}
	return nil, fmt.Errorf("no op %q", verb)
}

func (w *words) settings() group.Settings {
	s := group.Settings{Mode: group.Sync, MinInSync: 1, Policy: group.PolicyInSync, ReadLocal: w.flag("local")}
	if mode := w.text("mode"); mode != "" {
		s.Mode = group.Mode(mode)
	}
	if policy := w.text("policy"); policy != "" {
		s.Policy = group.Policy(policy)
	}
	if w.named["min"] != "" {
		s.MinInSync = int(w.number("min"))
	}
	return s
}

func showGroups(w io.Writer, s *State) {
	for _, g := range s.Groups() {
		r := g.Record
		fmt.Fprintf(w, "group %s, created %d, %s%s%s\n", g.Name, g.Created, settingsText(r.Settings),
			when(r.Next != r.Settings, "; next "+settingsText(r.Next)), when(g.Deleting, ", to be deleted"))
		for _, m := range r.Members {
			fmt.Fprintf(w, "  member %s, priority %d, incarnation %d%s\n", m.ID, m.Priority, m.Incarnation, when(r.Holds(m.ID), ", in sync"))
		}
		fmt.Fprintf(w, "  version %d%s%s\n", r.Version, when(r.Last != "", ", last master "+r.Last), when(r.Wanted != "", ", wanted "+r.Wanted))
		if g.Session != 0 {
			fmt.Fprintf(w, "  mastered by %s, session %d, epoch %d\n", r.Master, g.Session, r.Epoch)
		}
	}
	for _, topic := range s.Topics() {
		fmt.Fprintf(w, "topic %s, %d queues, revision %d\n", topic.Name, topic.Queues, topic.Revision)
	}
}
