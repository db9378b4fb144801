package vrrp

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
)

// Packet is a packet of protocol 112 as it was received.
type Packet struct {
	// Message is what follows the IP header; behind it may be what pads a short
	// Ethernet frame.
	Message             []byte
	Source, Destination netip.Addr
	TTL                 int // or hop limit; -1 = the system does not say
}

// Peer is another router of a unicast one.
type Peer struct {
	Address        netip.Addr
	MinTTL, MaxTTL int // 0 = no bound
}

// Policy is what a router demands of a packet beside its configuration.
type Policy struct {
	// Unicast: packets come from peers to an own address, not to the group.
	Unicast bool
	// Peers are the only sources of a unicast router, if CheckPeers is set. Unset,
	// any source is taken, as Keepalived does without check_unicast_src.
	Peers      []Peer
	CheckPeers bool
}

// Accept checks a packet in Keepalived's order, so that a packet with several faults
// is counted under the same name, and returns the event for [Machine.Step]. The
// error is a [*Error], with [ErrMalformed] or [ErrRefused] in its chain.
//
// Version 2's interval must be the own one: RFC 3768 and Keepalived discard the
// packet else. Version 3's may differ; the machine learns it. The address list and
// OwnerIgnores are the machine's matter too, as they depend on its state.
func (c Config) Accept(p Packet, policy Policy) (Received, error) {
	r, err := c.accept(p, policy)
	if err != nil {
		return Received{}, fmt.Errorf("accept advertisement from %v: %w", p.Source, err)
	}
	return r, nil
}

func (c Config) accept(p Packet, policy Policy) (Received, error) {
	d, err := dissect(p.Message, p.Source, p.Destination)
	if err != nil {
		return Received{}, err
	}
	a := d.advertisement
	switch {
	case !policy.Unicast && p.TTL != TTL && p.TTL != -1:
		return Received{}, refused(BadTTL, "TTL %d is not 255: it has been forwarded", p.TTL)
	case a.Version != c.Version:
		return Received{}, refused(BadVersion, "version %d, this router has %d", a.Version, c.Version)
	case a.VRID != c.VRID:
		return Received{}, refused(BadVRID, "VRID %d, this router has %d", a.VRID, c.VRID)
	}
	if err := c.authenticate(d); err != nil {
		return Received{}, err
	}
	if a.Version == 2 && a.Interval != c.Interval {
		return Received{}, refused(BadInterval, "interval %v, this router has %v", a.Interval, c.Interval)
	}
	if err := d.validate(); err != nil {
		return Received{}, err
	}
	if err := c.checkForm(d.checksum, policy.Unicast); err != nil {
		return Received{}, err
	}
	if p.Destination.IsMulticast() == policy.Unicast {
		return Received{}, refused(BadCast, "sent to %v, unicast is %t", p.Destination, policy.Unicast)
	}
	if policy.Unicast && policy.CheckPeers {
		if err := checkPeer(p, policy.Peers); err != nil {
			return Received{}, err
		}
	}
	return Received{Advertisement: a, Source: p.Source, Form: d.checksum}, nil
}

// authenticate compares version 2's password, if there is one on either side. The
// password is sent in the clear: it keeps mistakes apart, not enemies.
func (c Config) authenticate(d dissected) error {
	if c.Version != 2 {
		return nil
	}
	if err := d.validateAuth(); err != nil {
		return err
	}
	own := byte(authNone)
	if c.Password != nil {
		own = authPassword
	}
	switch {
	case d.auth != own:
		return refused(OtherAuth, "authentication type %d, this router has %d", d.auth, own)
	case own == authPassword && !bytes.Equal(d.advertisement.Password, trimZeros(c.Password)):
		return refused(BadPassword, "another password")
	}
	return nil
}

// checkForm refuses a checksum that is wrong, or of a form that the configuration
// rules out. A router that is told to send Pseudo ("old_unicast_checksum never") or
// OldUnicast takes nothing else over unicast, as Keepalived. By default all forms
// are taken, Plain too, which Keepalived takes only if told v3_checksum_as_v2 (and
// then any checksum): better to hear a router that does not hear us than not to.
func (c Config) checkForm(f Checksum, unicast bool) error {
	if f == 0 {
		return malformed(BadChecksum, "the checksum fits in no form")
	}
	if unicast && (c.Checksum == Pseudo && f == OldUnicast || c.Checksum == OldUnicast && f == Pseudo) {
		return refused(BadChecksum, "the checksum is of the form %v, this router has %v", f, c.Checksum)
	}
	return nil
}

// checkPeer looks a unicast source up.
func checkPeer(p Packet, peers []Peer) error {
	i := slices.IndexFunc(peers, func(peer Peer) bool { return peer.Address.WithZone("") == p.Source.WithZone("") })
	if i < 0 {
		return refused(UnknownPeer, "the source is none of the %d peers", len(peers))
	}
	peer := peers[i]
	if p.TTL != -1 && (p.TTL < peer.MinTTL || peer.MaxTTL != 0 && p.TTL > peer.MaxTTL) {
		return refused(BadTTL, "TTL %d is outside %d to %d", p.TTL, peer.MinTTL, peer.MaxTTL)
	}
	return nil
}
