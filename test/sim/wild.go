package sim

import (
	"fmt"

	"holdfast/fsm"
)

// wild are commands that are none of the agents' and leaders' making, or come from
// long ago: of another session, of another claim, twice in one entry. Each must be
// refused; one that is taken goes on as a state like any other, and the rules say
// what is wrong with it.
func (m *model) wild(out func(move, *model)) {
	for k, ops := range wildOps(m.head()) {
		res, err := m.head().Clone().ApplyEntry(m.known+1, fsm.Entry{Version: fsm.EntryVersion, Ops: ops})
		if err != nil || res.Err() != nil {
			continue
		}
		m.try(move{kind: moveWild, a: k}, out, func(n *model) bool { n.commitOps(ops); return true })
	}
}

func wildOps(st *fsm.State) (out [][]fsm.Op) {
	sessions := st.Sessions()
	for _, g := range st.Grants() {
		for _, s := range sessions {
			if s.ID != g.Session {
				out = append(out, []fsm.Op{fsm.Release{Set: g.Set, Session: s.ID, Epoch: g.Epoch}})
			}
		}
	}
	for _, r := range st.Retiring() {
		for _, s := range sessions {
			if s.ID != r.Session {
				out = append(out, []fsm.Op{fsm.ConfirmRemoval{Session: s.ID, Address: r.Address, Claim: r.Claim}})
			}
		}
		for claim := uint64(1); claim <= st.Applied(); claim++ {
			if claim != r.Claim {
				out = append(out, []fsm.Op{fsm.ConfirmRemoval{Session: r.Session, Address: r.Address, Claim: claim}})
			}
		}
	}
	for _, set := range st.Sets() {
		if _, held := st.Grant(set.Name); held || len(sessions) < 2 {
			continue
		}
		one, two := sessions[0].ID, sessions[1].ID
		out = append(out, []fsm.Op{
			fsm.GrantSet{Set: set.Name, Session: one},
			fsm.Release{Set: set.Name, Session: one, Epoch: fsm.Epoch(st.Applied() + 1)},
			fsm.GrantSet{Set: set.Name, Session: two},
		})
	}
	return out
}

// unsound says what is wrong with a state after an entry whatever the hosts do: an
// epoch names one grant, what was ended is not open, and whatever is kept is kept
// for a session that is.
func unsound(st *fsm.State, ops []fsm.Op, res fsm.Result) string {
	granted := ""
	for i, op := range ops {
		if i >= len(res.Ops) || res.Ops[i].Refusal != nil {
			continue
		}
		ended := fsm.SessionID(0)
		switch op := op.(type) {
		case fsm.GrantSet:
			if granted == op.Set {
				return fmt.Sprintf("set %s got one epoch twice", op.Set)
			}
			granted = op.Set
		case fsm.Rebind:
			ended = op.Old
		case fsm.CloseSession:
			ended = op.Session
		case fsm.Expire:
			ended = op.Session
		}
		if _, open := st.Session(ended); open {
			return fmt.Sprintf("session %d has ended and is open", ended)
		}
	}
	for _, g := range st.Grants() {
		if _, open := st.Session(g.Session); !open {
			return fmt.Sprintf("set %s is granted to session %d, which is not open", g.Set, g.Session)
		}
	}
	for _, r := range st.Retiring() {
		if _, open := st.Session(r.Session); !open {
			return fmt.Sprintf("%s is kept for session %d, which is not open", r.Address, r.Session)
		}
	}
	return ""
}
