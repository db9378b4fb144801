package tenure

import (
	"net/netip"
	"slices"
)

// View is what the quorum says of this host, at one index of the log. A Book that
// has taken it never changes it, and nor may anybody else.
type View struct {
	Index    uint64
	Sessions []uint64  // open ones of this host
	Grants   []Grant   // by set
	Retiring []Retired // by address
}

// Open says whether the view has the session.
func (v *View) Open(session uint64) bool { return slices.Contains(v.Sessions, session) }

// Grant says that a session may hold a set.
type Grant struct {
	Set       string    `json:"set"`
	Session   uint64    `json:"session"`
	Epoch     uint64    `json:"epoch"`
	Addresses []Claimed `json:"addresses"`
	Recalled  bool      `json:"-"`
	Cause     string    `json:"-"` // of the recall
}

// Key names one grant under one session. After a Rebind the same grant is another
// one under the new session.
type Key struct {
	Set            string
	Session, Epoch uint64
}

// Key returns the grant's name.
func (g *Grant) Key() Key { return Key{g.Set, g.Session, g.Epoch} }

// Claimed is an address of a set, with the index of the entry that gave it to the
// set (agent rule 8).
type Claimed struct {
	Prefix    netip.Prefix `json:"prefix"`
	Interface string       `json:"interface,omitempty"`
	Claim     uint64       `json:"claim"`
}

// Epoch is the one that the address's floor is compared with.
func (c Claimed) Epoch(g *Grant) uint64 { return max(g.Epoch, c.Claim) }

// Retired is an address that left its set while it was held.
type Retired struct {
	Address netip.Addr
	Claim   uint64
	Session uint64
	Set     string
}
