package gossip

import (
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"
)

// maxNodes bounds the table: a member that invents names must not fill the
// memory. When it is full, dead agents make room, the longest dead first.
const maxNodes = 4096

// peer is one node as the table keeps it. It is never changed once it is in
// the table, so readers need no lock.
type peer struct {
	node   Node
	addr   netip.AddrPort
	target *memberlist.Node // what Send gives to memberlist
}

func newPeer(n Node, addr netip.AddrPort) *peer {
	// No PMax: with it memberlist would add a checksum to what AES-GCM
	// authenticates anyway.
	return &peer{node: n, addr: addr, target: &memberlist.Node{
		Name: n.Name, Addr: addr.Addr().AsSlice(), Port: addr.Port(),
	}}
}

// table keeps every node that was ever heard of, with its last addresses.
// Writers take the lock and replace the whole map; readers load it.
type table struct {
	self  string
	mu    sync.Mutex
	peers atomic.Pointer[map[string]*peer]
}

func newTable(self string) *table {
	t := &table{self: self}
	t.peers.Store(&map[string]*peer{})
	return t
}

func (t *table) find(name string) (*peer, bool) {
	p, ok := (*t.peers.Load())[name]
	return p, ok
}

func (t *table) nodes() []Node {
	peers := *t.peers.Load()
	out := make([]Node, 0, len(peers))
	for _, p := range peers {
		out = append(out, p.node)
	}
	slices.SortFunc(out, func(a, b Node) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// put stores what memberlist says of a node and reports whether that is news.
func (t *table) put(p *peer) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	old, known := t.find(p.node.Name)
	if known && old.node.Alive == p.node.Alive {
		p.node.Since = old.node.Since
		if old.node == p.node {
			return false
		}
	}
	return t.store(p)
}

// hint stores the address that a datagram gave for its sender and reports
// whether that is news. The latest word wins, also over gossip's, which is
// slower: an agent that came back at another address must get its answers
// there, and being alive is none of a datagram's business.
func (t *table) hint(name string, from netip.AddrPort, now func() time.Time) bool {
	if old, known := t.find(name); name == t.self || known && old.addr == from {
		return false // nearly always: no lock
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	n := Node{Since: now()}
	if old, known := t.find(name); known {
		n = old.node // what it said of itself before is kept
	}
	n.Name, n.Gossip = name, from.String()
	n.Role, n.Host, _ = strings.Cut(name, "/")
	return t.store(newPeer(n, from))
}

func (t *table) forget(name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if p, known := t.find(name); !known || p.node.Alive || name == t.self {
		return
	}
	next := maps.Clone(*t.peers.Load())
	delete(next, name)
	t.peers.Store(&next)
}

// store replaces one row. The caller holds the lock.
func (t *table) store(p *peer) bool {
	next := maps.Clone(*t.peers.Load())
	if _, known := next[p.node.Name]; !known && len(next) >= maxNodes && !evict(next) {
		return false
	}
	next[p.node.Name] = p
	t.peers.Store(&next)
	return true
}

// evict removes the holder, agent or broker, that has been dead for longest.
func evict(peers map[string]*peer) bool {
	oldest := ""
	for name, p := range peers {
		if p.node.Alive || p.node.Role == RoleCoordinator {
			continue
		}
		if o, ok := peers[oldest]; !ok || p.node.Since.Before(o.node.Since) ||
			p.node.Since.Equal(o.node.Since) && name < oldest {
			oldest = name
		}
	}
	if oldest == "" {
		return false
	}
	delete(peers, oldest)
	return true
}

// missing gives the addresses of other coordinators that are not alive.
func (t *table) missing() []netip.AddrPort {
	var out []netip.AddrPort
	for name, p := range *t.peers.Load() {
		if p.node.Role == RoleCoordinator && !p.node.Alive && name != t.self {
			out = append(out, p.addr)
		}
	}
	return out
}

// alive says whether a node lives at that address, this one included.
func (t *table) alive(addr netip.AddrPort) bool {
	for _, p := range *t.peers.Load() {
		if p.addr == addr && p.node.Alive {
			return true
		}
	}
	return false
}
