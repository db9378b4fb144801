package raftnode

import (
	"errors"
	"fmt"

	"github.com/hashicorp/raft"
)

// Recover makes peersFile (a JSON array of {"id","address","non_voter"}) the
// configuration of the data directory at cfg.Dir, for a cluster that has lost
// its majority for good. It commits all that the log holds. Members that are
// not recovered with the same file must never run again.
// cfg.Listener is not needed. cfg.Machine must be fresh and is used up.
//
// It does what raft.RecoverCluster does, with two differences. The Machine sees
// the configuration entries among the commands, as it would in a running
// replica. And the new configuration gets an index of its own, behind the log,
// not the index 1 of the first configuration: whoever holds answers that were counted
// within that one must not take the two for one.
func Recover(cfg Config, peersFile string) error {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return err
	}
	peers, err := raft.ReadConfigJSON(peersFile)
	if err != nil {
		return fmt.Errorf("read peers file %s: %w", peersFile, err)
	}
	cfg.OnConfiguration = nil
	n, err := open(cfg)
	if err != nil {
		return fmt.Errorf("recover: %w", err)
	}
	defer n.Close()
	n.machine.removed = nil
	if err := n.recover(peers); err != nil {
		return fmt.Errorf("recover: %w", err)
	}
	return nil
}

func (n *Node) recover(peers raft.Configuration) error {
	if !n.HasState() {
		return errors.New("there is no state to recover; a new cluster is bootstrapped")
	}
	index, term, err := n.replay()
	if err != nil {
		return err
	}
	index++
	n.machine.StoreConfiguration(index, peers)
	snapshot, err := n.machine.Snapshot()
	if err != nil {
		return err
	}
	sink, err := n.stores.snapshots.Create(raft.SnapshotVersionMax, index, term, peers, index, peerCodec{})
	if err != nil {
		return fmt.Errorf("create snapshot: %w", err)
	}
	if err := snapshot.Persist(sink); err != nil {
		sink.Cancel()
		return err
	}
	first, err := n.stores.log.FirstIndex()
	if err != nil {
		return fmt.Errorf("shorten log: %w", err)
	}
	if err := n.stores.log.DeleteRange(first, index); err != nil {
		return fmt.Errorf("shorten log: %w", err)
	}
	return nil
}

// replay brings the Machine to the end of the log.
func (n *Node) replay() (index, term uint64, err error) {
	list, err := n.stores.snapshots.List()
	if err != nil {
		return 0, 0, fmt.Errorf("list snapshots: %w", err)
	}
	for _, meta := range list {
		_, r, err := n.stores.snapshots.Open(meta.ID)
		if err != nil {
			continue // Open has made sure that the log reaches back to one that can be read
		}
		err = n.machine.Restore(r)
		r.Close()
		if err != nil {
			return 0, 0, err
		}
		index, term = meta.Index, meta.Term
		break
	}
	last, err := n.stores.log.LastIndex()
	if err != nil {
		return 0, 0, fmt.Errorf("read log: %w", err)
	}
	for i := index + 1; i <= last; i++ {
		var l raft.Log
		if err := n.stores.log.GetLog(i, &l); err != nil {
			return 0, 0, fmt.Errorf("read log: %w", err)
		}
		switch l.Type {
		case raft.LogCommand:
			if failure, ok := n.machine.Apply(&l).(applyFailure); ok {
				return 0, 0, failure.err
			}
		case raft.LogConfiguration:
			n.machine.StoreConfiguration(i, raft.DecodeConfiguration(l.Data))
		}
		index, term = l.Index, l.Term
	}
	return index, term, nil
}

// peerCodec is the part of a transport that writing a snapshot needs.
type peerCodec struct{ raft.Transport }

func (peerCodec) EncodePeer(_ raft.ServerID, address raft.ServerAddress) []byte {
	return []byte(address)
}
