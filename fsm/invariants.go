package fsm

import (
	"fmt"
	"net/netip"
	"slices"
)

// check says which invariant the state breaks, if any. Restore refuses a state
// that breaks one. It does not repeat the rules of what an op may bring in, as
// those may become stricter than they were when the state was written.
func (s *State) check() error {
	for _, part := range []func() error{s.checkSessions, s.checkSets, s.checkGrants, s.checkRetiring, s.checkGroups, s.checkAudit} {
		if err := part(); err != nil {
			return err
		}
	}
	return s.within("the configuration", s.configuration)
}

// within checks that an index is not of the future.
func (s *State) within(what string, index uint64) error {
	if index > s.applied {
		return fmt.Errorf("%s has index %d, only %d is applied", what, index, s.applied)
	}
	return nil
}

func (s *State) checkSessions() error {
	brokers := 0
	for _, session := range s.Sessions() {
		if session.ID == 0 {
			return fmt.Errorf("a session of host %q has id 0", session.Host)
		}
		if err := s.within("a session", uint64(session.ID)); err != nil {
			return err
		}
		if session.Broker != nil {
			brokers++
		}
		if slices.Contains(s.hosts[session.Host], session.ID) == (session.Broker != nil) {
			return fmt.Errorf("session %d is missing among those of host %q, or a broker's and there", session.ID, session.Host)
		}
	}
	indexed := 0
	for host, ids := range s.hosts {
		indexed += len(ids)
		if len(ids) == 0 || !slices.IsSorted(ids) {
			return fmt.Errorf("the sessions of host %q are not in order: %v", host, ids)
		}
	}
	if indexed+brokers != len(s.sessions) {
		return fmt.Errorf("%d sessions, %d by host and %d of brokers", len(s.sessions), indexed, brokers)
	}
	return nil
}

// checkSets holds invariant 4: an address is in one set at most, and in none
// while it is retiring.
func (s *State) checkSets() error {
	owner := make(map[netip.Addr]string)
	for _, set := range s.Sets() {
		if err := s.within("set "+set.Name, set.Revision); err != nil {
			return err
		}
		for _, a := range set.Addresses {
			if !a.Prefix.IsValid() {
				return fmt.Errorf("set %s has an address that is none", set.Name)
			}
			if other, ok := owner[a.Addr()]; ok {
				return fmt.Errorf("address %s is in set %s and in set %s", a.Addr(), other, set.Name)
			}
			owner[a.Addr()] = set.Name
			if _, ok := s.retiring[a.Addr()]; ok {
				return fmt.Errorf("address %s is in set %s and retiring", a.Addr(), set.Name)
			}
			if err := s.within("the claim of "+a.Addr().String(), a.Claim); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *State) checkGrants() error {
	for _, grant := range s.Grants() {
		if _, ok := s.sets[grant.Set]; !ok {
			return fmt.Errorf("set %s is granted and does not exist", grant.Set)
		}
		if err := s.checkHolder(grant.Session, grant.Host); err != nil {
			return fmt.Errorf("set %s is granted: %w", grant.Set, err)
		}
		if err := s.within("the grant of "+grant.Set, uint64(grant.Epoch)); err != nil {
			return err
		}
	}
	return nil
}

func (s *State) checkRetiring() error {
	for _, row := range s.Retiring() {
		if !row.Address.IsValid() {
			return fmt.Errorf("set %s has a retiring address that is none", row.Set)
		}
		if err := s.checkHolder(row.Session, row.Host); err != nil {
			return fmt.Errorf("address %s retires: %w", row.Address, err)
		}
		if err := s.within("retiring "+row.Address.String(), row.Claim); err != nil {
			return err
		}
	}
	return nil
}

// checkHolder checks that a session is open and of this host.
func (s *State) checkHolder(id SessionID, host string) error {
	session, ok := s.sessions[id]
	if !ok {
		return fmt.Errorf("session %d is not open", id)
	}
	if session.Host != host {
		return fmt.Errorf("session %d is of host %s, not %s", id, session.Host, host)
	}
	if session.Broker != nil {
		return fmt.Errorf("session %d is of a broker", id)
	}
	return nil
}

func (s *State) checkAudit() error {
	if len(s.audit) > AuditRing {
		return fmt.Errorf("%d changes in a ring of %d", len(s.audit), AuditRing)
	}
	last := uint64(0)
	for _, c := range s.audit {
		if c.Index < last {
			return fmt.Errorf("change %d comes behind change %d", c.Index, last)
		}
		last = c.Index
	}
	return s.within("the last change", last)
}
