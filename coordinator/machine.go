package coordinator

import (
	"context"
	"fmt"

	"holdfast/coordinator/lease"
	"holdfast/coordinator/ledger"
	"holdfast/fsm"
)

// Machine is the coordinator as its log sees it: the replicated state.
type Machine struct{ c *Coordinator }

// Machine returns what the log calls, one call at a time, in log order.
func (c *Coordinator) Machine() Machine { return Machine{c} }

// Apply applies one committed entry and returns its fsm.Result. An error means
// that this replica cannot go on (fsm: an undecodable or unknown command).
func (m Machine) Apply(index uint64, data []byte) (any, error) {
	m.c.mu.Lock()
	res, err := m.c.state.Apply(index, data)
	if err == nil {
		m.c.meet()
	}
	m.c.mu.Unlock()
	if err != nil {
		return nil, fmt.Errorf("apply entry %d: %w", index, err)
	}
	m.c.applied(index)
	return res, nil
}

// Configured notes that the configuration entry at index was applied.
func (m Machine) Configured(index uint64) {
	m.c.mu.Lock()
	m.c.state.SetConfiguration(index)
	m.c.mu.Unlock()
	m.c.applied(index)
}

// Snapshot returns the replicated state, byte for byte reproducible.
func (m Machine) Snapshot() ([]byte, error) {
	m.c.mu.RLock()
	defer m.c.mu.RUnlock()
	return m.c.state.Snapshot(), nil
}

// Restore replaces the replicated state by a snapshot's.
func (m Machine) Restore(data []byte) error {
	st, err := fsm.Restore(data)
	if err != nil {
		return fmt.Errorf("restore snapshot: %w", err)
	}
	m.c.mu.Lock()
	m.c.state = st
	m.c.meet()
	applied := st.Applied()
	m.c.mu.Unlock()
	m.c.applied(applied)
	return nil
}

// Persisted notes that a snapshot of the state at index is on disk.
func (m Machine) Persisted(index uint64) {
	m.c.voterMu.Lock()
	m.c.ledger.Persisted(index)
	m.c.voterMu.Unlock()
	m.c.broadcast()
}

// SetConfiguration takes over the latest configuration in the log, also when
// it rolls back. The log calls it before it acts on the new one.
func (c *Coordinator) SetConfiguration(cfg Configuration) {
	c.voterMu.Lock()
	c.ledger.SetConfiguration(c.Boottime(), lease.Configuration{
		Index: cfg.Index, Previous: cfg.Previous, Voters: cfg.Voters(),
	})
	c.voterMu.Unlock()
	c.broadcast()
}

// applied publishes that the state has reached index.
func (c *Coordinator) applied(index uint64) {
	c.voterMu.Lock()
	c.ledger.SetApplied(index)
	c.voterMu.Unlock()
	c.broadcast()
}

// meet lets the ledger take in the new state. Called with the state locked.
func (c *Coordinator) meet() {
	now := c.Boottime()
	c.voterMu.Lock()
	defer c.voterMu.Unlock()
	c.ledger.Met(now, c.state)
	for id := range c.told {
		if _, open := c.state.Session(id); !open {
			delete(c.told, id)
		}
	}
	for id := range c.reports {
		if _, open := c.state.Session(id); !open {
			delete(c.reports, id)
		}
	}
}

// keepHouse makes durable what follows from applied entries: it raises the
// longest TTL before the first promise for it can be made (the voter drops
// renewals until then), and deletes marks that are needed no more.
func (c *Coordinator) keepHouse(ctx context.Context) error {
	for {
		change := c.change()
		if err := c.raiseLongestTTL(); err != nil {
			return err
		}
		if err := c.unmarkEnded(); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-change:
		}
	}
}

func (c *Coordinator) raiseLongestTTL() error {
	longest := c.Store.LongestTTL()
	c.mu.RLock()
	want := ledger.WantedTTL(c.state, longest)
	c.mu.RUnlock()
	if want == longest {
		return nil
	}
	if err := c.Store.SetLongestTTL(want); err != nil {
		return fmt.Errorf("store longest TTL: %w", err)
	}
	c.voterMu.Lock()
	c.ledger.RaiseLongestTTL(want)
	c.voterMu.Unlock()
	return nil
}

// unmarkEnded deletes the marks that are needed no more.
func (c *Coordinator) unmarkEnded() error {
	marks := c.Store.Marks()
	c.mu.RLock()
	c.voterMu.Lock()
	done := c.ledger.Unneeded(c.state, marks)
	c.voterMu.Unlock()
	c.mu.RUnlock()
	if len(done) == 0 {
		return nil
	}
	if err := c.Store.Unmark(done...); err != nil {
		return fmt.Errorf("delete fence marks: %w", err)
	}
	return nil
}
