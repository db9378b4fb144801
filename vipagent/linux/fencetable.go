package linux

import (
	"net/netip"

	"holdfast/coordinator/lease"
)

// FenceTable is what the kernel holds of a fence at one moment.
type FenceTable struct {
	Kind       string         `json:"kind"` // "ebpf" or "nft"
	Sessions   []FenceSession `json:"sessions"`
	Addresses  []FenceAddress `json:"addresses"`
	Interfaces []string       `json:"interfaces"` // where it is attached, sorted
}

// FenceSession is the deadline of one session.
type FenceSession struct {
	Session  uint64     `json:"session"`
	Slot     int        `json:"slot"`
	Deadline lease.Time `json:"deadline"` // absolute, CLOCK_BOOTTIME ns; 0 = closed
}

// FenceAddress is one guarded address.
type FenceAddress struct {
	Address netip.Addr `json:"address"`
	// Open: it passes while the deadlines of Session and of Also (0 = none)
	// lie ahead. Else it never passes.
	Open    bool   `json:"open"`
	Epoch   uint64 `json:"epoch"`
	Session uint64 `json:"session"`
	Also    uint64 `json:"also,omitzero"`
	// Until is when the guard of an address that is down ends by itself, absolute,
	// CLOCK_BOOTTIME ns; 0 = never.
	Until lease.Time `json:"until,omitzero"`
	// Packets refused since it was first guarded: sent to it, and claiming it.
	RefusedIn  uint64 `json:"refused_in"`
	RefusedOut uint64 `json:"refused_out"`
}
