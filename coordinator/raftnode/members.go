package raftnode

import (
	"context"
	"fmt"
	"time"

	"github.com/hashicorp/raft"
)

// changeLimit bounds a change of the configuration.
const changeLimit = 10 * time.Second

// AddNonvoter adds a server that gets the log and has no vote, or corrects its
// address. It returns once that has committed. Leader only; errors as for Propose.
func (n *Node) AddNonvoter(ctx context.Context, s Server) error {
	return n.change(ctx, "add "+s.Name, func(r *raft.Raft) raft.Future {
		return r.AddNonvoter(raft.ServerID(s.Name), raft.ServerAddress(s.Address), 0, changeLimit)
	})
}

// Promote gives a server of the configuration its vote: see Followers for
// whether it has caught up. Leader only; ErrUnknownServer, and errors as for Propose.
func (n *Node) Promote(ctx context.Context, name string) error {
	s, ok := n.Configuration().server(name)
	if !ok {
		return fmt.Errorf("promote %s: %w", name, ErrUnknownServer)
	}
	return n.change(ctx, "promote "+name, func(r *raft.Raft) raft.Future {
		return r.AddVoter(raft.ServerID(name), raft.ServerAddress(s.Address), 0, changeLimit)
	})
}

// Remove takes a server out of the configuration and then tells it so, within
// a short bound. Leader only; a leader that removes itself stops once that has
// committed. ErrUnknownServer, and errors as for Propose.
func (n *Node) Remove(ctx context.Context, name string) error {
	s, ok := n.Configuration().server(name)
	if !ok {
		return fmt.Errorf("remove %s: %w", name, ErrUnknownServer)
	}
	var index uint64
	err := n.change(ctx, "remove "+name, func(r *raft.Raft) raft.Future {
		return indexed{r.RemoveServer(raft.ServerID(name), 0, changeLimit), &index}
	})
	if err == nil && name != n.cfg.Name {
		n.tellRemoved(ctx, s, index)
	}
	return err
}

// indexed notes the index of an entry once it has committed.
type indexed struct {
	raft.IndexFuture
	index *uint64
}

func (f indexed) Error() error {
	err := f.IndexFuture.Error()
	if err == nil {
		*f.index = f.IndexFuture.Index()
	}
	return err
}

// change appends a configuration entry. It waits for the proposals under way
// and keeps new ones back, and Raft waits for the first entry of the leader's
// term; so the entry before this one is committed. Then no later leader can put
// another configuration at the same index (its log reaches as far, and its
// first entry is a no-op), and an index names one configuration for ever. Raft
// alone does not promise that.
func (n *Node) change(ctx context.Context, verb string, begin func(*raft.Raft) raft.Future) error {
	ctx, cancel := context.WithTimeout(ctx, changeLimit)
	defer cancel()
	if err := n.gate.close(ctx); err != nil {
		return fmt.Errorf("%s: %w", verb, err)
	}
	in, err := n.leader()
	if err != nil {
		n.gate.open()
		return fmt.Errorf("%s: %w", verb, err)
	}
	_, err = n.await(ctx, in, verb, begin, n.gate.open)
	return err
}

// tellRemoved tells a removed server that its removal has committed. Raft tries
// to replicate the entry to it once and stops talking to it before the commit,
// so it would wait for a leader for ever. What is sent are ordinary
// AppendEntries of the term in which this node led and appended the entry; they
// carry only what has committed, so they stay true whatever has happened since.
func (n *Node) tellRemoved(ctx context.Context, s Server, index uint64) {
	ctx, cancel := context.WithTimeout(ctx, n.cfg.rpcTimeout())
	defer cancel()
	has := index - 1 // what the server has, as far as is known
	for ctx.Err() == nil {
		args, err := n.committed(has, index)
		in := n.current.Load()
		if err != nil || in == nil {
			break
		}
		answered := make(chan raft.AppendEntriesResponse, 1)
		go func() {
			var resp raft.AppendEntriesResponse
			// Errors show as a response without success; the next round dials again.
			_ = in.transport.NetworkTransport.AppendEntries(raft.ServerID(s.Name), raft.ServerAddress(s.Address), args, &resp)
			answered <- resp
		}()
		select {
		case resp := <-answered:
			switch {
			case resp.Success, resp.Term > args.Term: // the latter has heard of a later leader
				return
			case resp.Term > 0:
				has = min(has-1, resp.LastLog)
			}
		case <-ctx.Done():
		}
		select {
		case <-time.After(commitTimeout):
		case <-ctx.Done():
		}
	}
	n.cfg.Logger.Warn("removed server could not be told", "server", s.Name)
}

// committed is the message that brings a server from entry has to entry index,
// which this node appended as leader and which has committed.
func (n *Node) committed(has, index uint64) (*raft.AppendEntriesRequest, error) {
	args := &raft.AppendEntriesRequest{
		RPCHeader:    raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(n.cfg.Name), Addr: []byte(n.cfg.Advertise)},
		PrevLogEntry: has, LeaderCommitIndex: index,
	}
	for i := max(has, 1); i <= index; i++ {
		var l raft.Log
		if err := n.stores.log.GetLog(i, &l); err != nil {
			return nil, err
		}
		if i == has {
			args.PrevLogTerm = l.Term
			continue
		}
		args.Entries = append(args.Entries, &l)
		args.Term = l.Term
	}
	return args, nil
}

// TransferLeadership hands leadership to the named server, or to the one that
// is furthest if to is "". It waits for proposals under way, holds new ones
// back, and is bounded to a few election timeouts. Leader only. Errors: ErrNotLeader, ErrUnknownServer,
// ErrStopped, or why it did not work: this node may then still lead.
func (n *Node) TransferLeadership(ctx context.Context, to string) error {
	verb := "transfer leadership"
	var target Server
	if to != "" {
		var ok bool
		if target, ok = n.Configuration().server(to); !ok || !target.Voter {
			return fmt.Errorf("%s to %s: %w", verb, to, ErrUnknownServer)
		}
		verb += " to " + to
	}
	ctx, cancel := context.WithTimeout(ctx, n.transferBound())
	defer cancel()
	if err := n.gate.close(ctx); err != nil {
		return fmt.Errorf("%s: %w", verb, err)
	}
	defer n.gate.open()
	in, err := n.leader()
	if err != nil {
		return fmt.Errorf("%s: %w", verb, err)
	}
	done := make(chan error, 1)
	go func() {
		if to == "" {
			done <- in.raft.LeadershipTransfer().Error()
			return
		}
		done <- in.raft.LeadershipTransferToServer(raft.ServerID(target.Name), raft.ServerAddress(target.Address)).Error()
	}()
	select {
	case err := <-done:
		if err != nil {
			return fmt.Errorf("%s: %w", verb, err)
		}
		return nil
	case <-in.down:
		return fmt.Errorf("%s: %w", verb, ErrStopped)
	case <-ctx.Done():
		return fmt.Errorf("%s: %w", verb, ctx.Err())
	}
}

// Snapshot takes a snapshot now, and shortens the log.
func (n *Node) Snapshot(ctx context.Context) error {
	in := n.current.Load()
	if in == nil {
		return fmt.Errorf("take snapshot: %w", ErrStopped)
	}
	done := make(chan error, 1)
	go func() { done <- in.raft.Snapshot().Error() }()
	select {
	case err := <-done:
		if err != nil {
			return fmt.Errorf("take snapshot: %w", err)
		}
		return nil
	case <-in.down:
		return fmt.Errorf("take snapshot: %w", ErrStopped)
	case <-ctx.Done():
		return fmt.Errorf("take snapshot: %w", ctx.Err())
	}
}
