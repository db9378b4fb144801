package gossip

import (
	"fmt"
	"net/netip"

	"github.com/hashicorp/memberlist"
)

// delegate is the side of Gossip that memberlist calls. All but NotifyMsg are
// called with memberlist's node lock held: they only touch the table.
type delegate Gossip

// NotifyAlive keeps nodes out whose name, address or metadata nobody here
// could use; memberlist logs the returned error as a warning.
func (d *delegate) NotifyAlive(n *memberlist.Node) error {
	_, err := readNode(n)
	return err
}

// NotifyJoin implements memberlist.EventDelegate.
func (d *delegate) NotifyJoin(n *memberlist.Node) { d.update(n, true) }

// NotifyUpdate implements memberlist.EventDelegate.
func (d *delegate) NotifyUpdate(n *memberlist.Node) { d.update(n, true) }

// NotifyLeave implements memberlist.EventDelegate: dead or gone, which makes
// no difference to what is kept of it.
func (d *delegate) NotifyLeave(n *memberlist.Node) { d.update(n, false) }

func (d *delegate) update(n *memberlist.Node, alive bool) {
	p, err := readNode(n)
	if err != nil {
		return // NotifyAlive has refused it; there is nothing to keep
	}
	p.node.Alive, p.node.Since = alive, d.now()
	if d.table.put(p) {
		(*Gossip)(d).signal()
	}
}

// NotifyMsg implements memberlist.Delegate. memberlist calls it from its
// packet handler, and from a stream's goroutine for a user message over TCP,
// which no node of ours sends.
func (d *delegate) NotifyMsg(b []byte) {
	name, from, payload, err := parseHeader(b)
	if err != nil {
		d.refused.Add(1)
		return
	}
	d.deliver.Lock()
	defer d.deliver.Unlock()
	if d.closed {
		return
	}
	if d.table.hint(name, from, d.now) {
		(*Gossip)(d).signal()
	}
	if d.config.OnDatagram != nil {
		d.config.OnDatagram(name, payload)
	}
}

// NodeMeta implements memberlist.Delegate.
func (d *delegate) NodeMeta(int) []byte { return d.meta }

// GetBroadcasts implements memberlist.Delegate: nothing of ours is flooded.
func (d *delegate) GetBroadcasts(int, int) [][]byte { return nil }

// LocalState implements memberlist.Delegate: nothing beside the members.
func (d *delegate) LocalState(bool) []byte { return nil }

// MergeRemoteState implements memberlist.Delegate.
func (d *delegate) MergeRemoteState([]byte, bool) {}

// readNode checks everything that came off the wire about a node.
func readNode(n *memberlist.Node) (*peer, error) {
	role, host, err := parseName(n.Name)
	if err != nil {
		return nil, err
	}
	ip, ok := netip.AddrFromSlice(n.Addr)
	if !ok {
		return nil, fmt.Errorf("address of %d bytes", len(n.Addr))
	}
	addr := netip.AddrPortFrom(ip.Unmap(), n.Port)
	if err := checkAddress(addr); err != nil {
		return nil, err
	}
	meta, err := decodeMeta(n.Meta)
	if err != nil {
		return nil, err
	}
	return newPeer(Node{
		Name: n.Name, Role: role, Host: host, Gossip: addr.String(),
		API: meta.API, Raft: meta.Raft, Store: meta.Store, Version: meta.Version,
	}, addr), nil
}
