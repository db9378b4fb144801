package main

import (
	"fmt"
	"io"
	"math"
	"net/netip"
	"strings"
	"time"

	pb "holdfast/coordinator/api/holdfastpb"
	"holdfast/fsm"
)

// vrrpEntry is the `vrrp:` of a VIP set: how its hosts take part, as one router, in
// VRRP with routers outside of the quorum.
type vrrpEntry struct {
	VRID          int           `yaml:"vrid" help:"virtual router id, 1 to 255"`
	Version       int           `yaml:"version" help:"2 or 3; default 2, over IPv6 3"`
	Priority      int           `yaml:"priority" help:"1 to 254, of whichever host holds the set; default 100"`
	Interval      time.Duration `yaml:"interval" help:"between two advertisements; default 1s"`
	Interface     string        `yaml:"interface" help:"advertisements go here; default: where the first advertised address belongs"`
	IPv6          bool          `yaml:"ipv6" help:"advertise the IPv6 addresses, not those of IPv4"`
	NoPreempt     bool          `yaml:"nopreempt" help:"leave an Active router of lower priority alone"`
	Password      string        `yaml:"password" help:"auth_pass of version 2, at most 8 characters"`
	Peers         []netip.Addr  `yaml:"peers" help:"unicast peers outside of the quorum; none: multicast"`
	PlainChecksum bool          `yaml:"plain_checksum" help:"version 3 over IPv4 as RFC 9568 has it (keepalived: v3_checksum_as_v2)"`
	Mode          string        `yaml:"mode" help:"join (default): the holder takes part; observe: listen and report, an Active holder gives way; off: not shared"`
}

// withDefaults returns the entry with what was left out filled in.
func (e vrrpEntry) withDefaults() vrrpEntry {
	if e.Version == 0 {
		e.Version = 2
		if e.IPv6 {
			e.Version = 3
		}
	}
	if e.Priority == 0 {
		e.Priority = defaultPriority
	}
	if e.Interval == 0 {
		e.Interval = time.Second
	}
	return e
}

// outside returns the key of a number that does not fit into its field, "" if all do.
func (e *vrrpEntry) outside() (key string, value int) {
	for _, n := range []struct {
		key   string
		value int
	}{{"vrid", e.VRID}, {"version", e.Version}, {"priority", e.Priority}} {
		if n.value < 0 || n.value > math.MaxUint8 {
			return n.key, n.value
		}
	}
	return "", 0
}

// mode is the mode as the quorum names it.
func (e *vrrpEntry) mode() string {
	if e.Mode == "join" {
		return fsm.VRRPJoin
	}
	return e.Mode
}

// octet is n where that fits, else 0, which is never valid.
func octet(n int) uint8 {
	if n < 0 || n > math.MaxUint8 {
		return 0
	}
	return uint8(n)
}

func (e *vrrpEntry) toFSM() *fsm.VRRP {
	if e == nil {
		return nil
	}
	return &fsm.VRRP{
		ID: octet(e.VRID), Version: octet(e.Version), Priority: octet(e.Priority), Interval: e.Interval, Interface: e.Interface, IPv6: e.IPv6,
		NoPreempt: e.NoPreempt, Password: e.Password, Peers: e.Peers, PlainChecksum: e.PlainChecksum, Mode: e.mode(),
	}
}

func (e *vrrpEntry) toPB() *pb.VRRP {
	if e == nil {
		return nil
	}
	out := &pb.VRRP{
		Vrid: uint32(octet(e.VRID)), Version: uint32(octet(e.Version)), Priority: uint32(octet(e.Priority)), IntervalMs: e.Interval.Milliseconds(),
		Interface: e.Interface, Ipv6: e.IPv6, NoPreempt: e.NoPreempt, Password: e.Password,
		PlainChecksum: e.PlainChecksum, Mode: e.mode(),
	}
	for _, p := range e.Peers {
		out.Peers = append(out.Peers, p.String())
	}
	return out
}

// writeVRRP writes what parseSetFile reads as a vrrpEntry.
func writeVRRP(w io.Writer, v *pb.VRRP) {
	if v == nil {
		return
	}
	fmt.Fprintf(w, "    vrrp:\n      vrid: %d\n      version: %d\n      priority: %d\n      interval: %s\n",
		v.GetVrid(), v.GetVersion(), v.GetPriority(), time.Duration(v.GetIntervalMs())*time.Millisecond)
	if v.GetMode() != "" {
		fmt.Fprintf(w, "      mode: %s\n", v.GetMode())
	}
	if v.GetInterface() != "" {
		fmt.Fprintf(w, "      interface: %s\n", v.GetInterface())
	}
	if v.GetPassword() != "" {
		fmt.Fprintf(w, "      password: %q\n", v.GetPassword())
	}
	if len(v.GetPeers()) > 0 {
		fmt.Fprintf(w, "      peers: [%s]\n", strings.Join(v.GetPeers(), ", "))
	}
	for _, flag := range []struct {
		key string
		set bool
	}{{"ipv6", v.GetIpv6()}, {"nopreempt", v.GetNoPreempt()}, {"plain_checksum", v.GetPlainChecksum()}} {
		if flag.set {
			fmt.Fprintf(w, "      %s: true\n", flag.key)
		}
	}
}
