package fsm

import (
	"errors"
	"fmt"
	"slices"
)

// checkGroups holds the invariants of groups that one state shows. That epochs and
// versions only rise is shown by two.
func (s *State) checkGroups() error {
	for _, g := range s.Groups() {
		if err := s.checkGroup(g); err != nil {
			return fmt.Errorf("group %s: %w", g.Name, err)
		}
	}
	for _, topic := range s.Topics() {
		if topic.Queues < 1 {
			return fmt.Errorf("topic %s has %d queues", topic.Name, topic.Queues)
		}
		if err := s.within("topic "+topic.Name, topic.Revision); err != nil {
			return err
		}
	}
	return nil
}

func (s *State) checkGroup(g *Group) error {
	r := g.Record
	ids := make([]string, len(r.Members))
	for i, m := range r.Members {
		ids[i] = m.ID
		if err := s.within("the incarnation of "+m.ID, m.Incarnation); err != nil {
			return err
		}
	}
	member := func(id string) bool { return slices.Contains(ids, id) }
	switch {
	case !rising(ids) || len(ids) == 0:
		return fmt.Errorf("its members are none or not in order: %v", ids)
	case !rising(r.InSync):
		return fmt.Errorf("its in-sync set is not in order: %v", r.InSync)
	case r.Wanted != "" && !member(r.Wanted):
		return fmt.Errorf("%s is wanted and no member", r.Wanted)
	case (r.Epoch == 0) != (r.Master == "") || (r.Epoch == 0) != (g.Session == 0):
		return fmt.Errorf("epoch %d, master %q and session %d are not one grant", r.Epoch, r.Master, g.Session)
	case g.Deleting && g.Session == 0:
		return errors.New("is to be deleted and has no master")
	}
	for _, id := range r.InSync {
		if !member(id) {
			return fmt.Errorf("%s is in the in-sync set and no member", id)
		}
	}
	if err := s.checkMaster(g); err != nil {
		return err
	}
	for _, index := range []uint64{g.Created, r.Version, r.Epoch} {
		if err := s.within("an entry of it", index); err != nil {
			return err
		}
	}
	return nil
}

// checkMaster checks that a grant names an open session of a member of the set.
func (s *State) checkMaster(g *Group) error {
	if g.Session == 0 {
		return nil
	}
	session, ok := s.sessions[g.Session]
	switch {
	case !ok:
		return fmt.Errorf("session %d is not open", g.Session)
	case session.Broker == nil || session.Broker.Name != g.Record.Master:
		return fmt.Errorf("session %d is not of its master %s", g.Session, g.Record.Master)
	case !g.Record.Holds(g.Record.Master):
		return fmt.Errorf("its master %s is not in the in-sync set", g.Record.Master)
	}
	return nil
}

// rising says whether names are in order and none comes twice.
func rising(names []string) bool {
	for i := 1; i < len(names); i++ {
		if names[i-1] >= names[i] {
			return false
		}
	}
	return true
}
