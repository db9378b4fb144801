package main

import (
	"fmt"
	"io"
	"net/netip"
	"strings"
	"time"

	"holdfast/cmd/internal/daemon"
	pb "holdfast/coordinator/api/holdfastpb"
	"holdfast/fsm"
)

// setFile is the file of `coordctl vip apply -f`.
type setFile struct {
	VIPs []setEntry `yaml:"vips" help:"VIP sets"`
}

// setEntry is one VIP set of the file.
type setEntry struct {
	Name         string        `yaml:"name" help:"name of the set"`
	Addresses    []vipAddress  `yaml:"addresses" help:"ADDRESS/LENGTH, optionally followed by dev INTERFACE"`
	Hosts        []hostEntry   `yaml:"hosts" help:"candidates; the highest priority wins"`
	Preempt      bool          `yaml:"preempt" help:"move back to a host of higher priority"`
	PreemptDelay time.Duration `yaml:"preempt_delay" help:"how long that host must have been fit"`
	SyncGroup    string        `yaml:"sync_group" help:"sets of one group stay on one host"`
	Spread       string        `yaml:"spread" help:"sets of one label prefer different hosts"`
	AntiAffinity string        `yaml:"anti_affinity" help:"sets of one label never share a host"`
	Paused       bool          `yaml:"paused" help:"create it without giving it to anybody"`
	VRRP         *vrrpEntry    `yaml:"vrrp" help:"share it with VRRP routers outside of the quorum"`
}

type hostEntry struct {
	Host     string `yaml:"host" help:"host name, as its vipagent.yaml says"`
	Priority int    `yaml:"priority" help:"1 to 254; default 100"`
}

// vipAddress is "10.0.0.50/24" or "10.0.0.50/24 dev eth1".
type vipAddress struct {
	prefix netip.Prefix
	dev    string
}

// UnmarshalText reads the form that ip(8) and keepalived.conf use.
func (a *vipAddress) UnmarshalText(text []byte) error {
	words := strings.Fields(string(text))
	if len(words) != 1 && (len(words) != 3 || words[1] != "dev") {
		return fmt.Errorf("want ADDRESS/LENGTH or ADDRESS/LENGTH dev INTERFACE")
	}
	prefix, err := netip.ParsePrefix(words[0])
	if err != nil {
		if addr, err := netip.ParseAddr(words[0]); err == nil {
			return fmt.Errorf("the prefix length is missing: %s/%d, or that of its subnet", addr, addr.BitLen())
		}
		return fmt.Errorf("%q is not an address with a prefix length, such as 10.0.0.50/24", words[0])
	}
	a.prefix = prefix
	if len(words) == 3 {
		a.dev = words[2]
	}
	return nil
}

// MarshalText is the inverse of UnmarshalText.
func (a vipAddress) MarshalText() ([]byte, error) {
	s := a.prefix.String()
	if a.dev != "" {
		s += " dev " + a.dev
	}
	return []byte(s), nil
}

// defaultPriority is VRRP's.
const defaultPriority = 100

// parseSetFile reads a file of VIP sets and reports all that is wrong with it.
func parseSetFile(name string, r io.Reader) ([]*pb.VIPSet, error) {
	var file setFile
	var sets []*pb.VIPSet
	err := daemon.ParseDocument(name, r, &file, func(fail func(path, format string, args ...any)) {
		if len(file.VIPs) == 0 {
			fail("", "the file names no VIP set; it begins with `vips:`")
		}
		names := make(map[string]int)
		owners := make(map[netip.Addr]string)
		for i := range file.VIPs {
			path := fmt.Sprintf("vips[%d]", i)
			e := &file.VIPs[i]
			for j := range e.Hosts {
				if e.Hosts[j].Priority == 0 {
					e.Hosts[j].Priority = defaultPriority
				}
			}
			if e.VRRP != nil {
				filled := e.VRRP.withDefaults()
				e.VRRP = &filled
				if key, value := filled.outside(); key != "" {
					fail(path+".vrrp."+key, "%d is not within 1 to 255", value)
					continue
				}
			}
			if first, dup := names[e.Name]; dup {
				fail(path+".name", "set %q stands in this file twice (vips[%d])", e.Name, first)
			}
			names[e.Name] = i
			for j, a := range e.Addresses {
				if owner, dup := owners[a.prefix.Addr()]; dup {
					fail(fmt.Sprintf("%s.addresses[%d]", path, j), "%s belongs to set %q already", a.prefix.Addr(), owner)
				}
				owners[a.prefix.Addr()] = e.Name
			}
			if err := fsm.ValidateSet(e.toFSM()); err != nil {
				fail(path, "%s", err)
			}
			sets = append(sets, e.toPB())
		}
	})
	return sets, err
}

func (e *setEntry) toFSM() fsm.Set {
	s := fsm.Set{
		Name: e.Name, Preempt: e.Preempt, PreemptDelay: e.PreemptDelay,
		SyncGroup: e.SyncGroup, Spread: e.Spread, AntiAffinity: e.AntiAffinity, Paused: e.Paused,
		VRRP: e.VRRP.toFSM(),
	}
	for _, a := range e.Addresses {
		s.Addresses = append(s.Addresses, fsm.Address{Prefix: a.prefix, Interface: a.dev})
	}
	for _, h := range e.Hosts {
		s.Candidates = append(s.Candidates, fsm.Candidate{Host: h.Host, Priority: h.Priority})
	}
	return s
}

func (e *setEntry) toPB() *pb.VIPSet {
	s := &pb.VIPSet{
		Name: e.Name, Preempt: e.Preempt, PreemptDelayMs: e.PreemptDelay.Milliseconds(),
		SyncGroup: e.SyncGroup, Spread: e.Spread, AntiAffinity: e.AntiAffinity, Paused: e.Paused,
		Vrrp: e.VRRP.toPB(),
	}
	for _, a := range e.Addresses {
		s.Addresses = append(s.Addresses, &pb.Address{Prefix: a.prefix.String(), Interface: a.dev})
	}
	for _, h := range e.Hosts {
		s.Candidates = append(s.Candidates, &pb.Candidate{Host: h.Host, Priority: int32(h.Priority)})
	}
	return s
}

// writeSetFile writes sets in the form that parseSetFile reads, so that `vip
// show` can be edited and applied again.
func writeSetFile(w io.Writer, sets []*pb.VIPSet) {
	fmt.Fprintln(w, "vips:")
	for _, s := range sets {
		fmt.Fprintf(w, "  - name: %s\n    addresses:\n", s.Name)
		for _, a := range s.Addresses {
			dev := ""
			if a.Interface != "" {
				dev = " dev " + a.Interface
			}
			fmt.Fprintf(w, "      - %s%s\n", a.Prefix, dev)
		}
		fmt.Fprintln(w, "    hosts:")
		for _, c := range s.Candidates {
			fmt.Fprintf(w, "      - {host: %s, priority: %d}\n", c.Host, c.Priority)
		}
		fmt.Fprintf(w, "    preempt: %t\n", s.Preempt)
		if s.PreemptDelayMs != 0 {
			fmt.Fprintf(w, "    preempt_delay: %s\n", time.Duration(s.PreemptDelayMs)*time.Millisecond)
		}
		for _, label := range []struct{ key, value string }{
			{"sync_group", s.SyncGroup}, {"spread", s.Spread}, {"anti_affinity", s.AntiAffinity},
		} {
			if label.value != "" {
				fmt.Fprintf(w, "    %s: %s\n", label.key, label.value)
			}
		}
		if s.Paused {
			fmt.Fprintln(w, "    paused: true")
		}
		writeVRRP(w, s.GetVrrp())
	}
}
