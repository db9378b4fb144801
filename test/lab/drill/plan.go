package drill

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	pb "holdfast/coordinator/api/holdfastpb"
)

// Pair is one thing of the user's and what stands for it in the lab.
type Pair struct{ User, Lab string }

// Plan is a user's file of VIP sets, moved into the lab. Names of sets, numbers
// of addresses and priorities are as they were.
type Plan struct {
	Hosts     []Pair
	Addresses []Pair
	File      string       // the sets in the lab, for `coordctl vip apply`
	Set       string       // which is attacked
	VIPs      []netip.Addr // of that set, asked and judged
	Also      []netip.Addr // of other sets, asked and judged for overlap

	candidates []string // of the set, by name in the lab
}

const (
	// fewestHosts: three coordinators have a majority that can be lost.
	fewestHosts = 3
	// mostHosts have numbers in the lab's subnet.
	mostHosts = 64
	// asked is how many addresses of the set, and of the others, are asked all
	// the time. Each costs a thousand packets a second.
	asked = 2
)

// MakePlan moves sets into the lab. The named set is attacked; "" is the first
// that two hosts may hold.
func MakePlan(sets []*pb.VIPSet, set string) (*Plan, error) {
	attacked, err := choose(sets, set)
	if err != nil {
		return nil, err
	}
	p := &Plan{Set: attacked.Name}
	hosts := p.mapHosts(attacked, sets)
	if len(hosts) > mostHosts {
		return nil, fmt.Errorf("the sets name %d hosts, a drill has room for %d", len(hosts), mostHosts)
	}
	addresses, err := p.mapAddresses(sets)
	if err != nil {
		return nil, err
	}
	for _, c := range attacked.Candidates {
		p.candidates = append(p.candidates, hosts[c.Host])
	}
	p.VIPs = ask(attacked, addresses)
	for _, s := range sets {
		if s != attacked && len(p.Also) < asked {
			p.Also = append(p.Also, ask(s, addresses)[:1]...)
		}
	}
	var b strings.Builder
	b.WriteString("vips:\n")
	for _, s := range sets {
		writeSet(&b, s, hosts, addresses)
	}
	p.File = b.String()
	return p, nil
}

// choose finds the set to attack.
func choose(sets []*pb.VIPSet, name string) (*pb.VIPSet, error) {
	for _, s := range sets {
		fit := len(s.Candidates) > 1 && !s.Paused && len(s.Addresses) > 0
		switch {
		case name == "" && fit, name == s.Name && fit:
			return s, nil
		case name == s.Name:
			return nil, fmt.Errorf("set %q cannot be attacked: it is paused, or only one host may hold it", name)
		}
	}
	if name != "" {
		return nil, fmt.Errorf("there is no set %q in the file", name)
	}
	return nil, fmt.Errorf("no set in the file can move: each is paused, or only one host may hold it")
}

// mapHosts numbers the hosts, those of the attacked set first: the lab's first
// host stands alone on its segment.
func (p *Plan) mapHosts(attacked *pb.VIPSet, sets []*pb.VIPSet) map[string]string {
	hosts := make(map[string]string)
	for _, s := range append([]*pb.VIPSet{attacked}, sets...) {
		for _, c := range s.Candidates {
			if hosts[c.Host] == "" {
				hosts[c.Host] = fmt.Sprintf("host%d", len(hosts)+1)
				p.Hosts = append(p.Hosts, Pair{c.Host, hosts[c.Host]})
			}
		}
	}
	return hosts
}

// mapAddresses gives each address one of its family in the lab.
func (p *Plan) mapAddresses(sets []*pb.VIPSet) (map[string]netip.Addr, error) {
	addresses := make(map[string]netip.Addr)
	n4, n6 := 0, 0
	for _, s := range sets {
		for _, a := range s.Addresses {
			prefix, err := netip.ParsePrefix(a.Prefix)
			if err != nil {
				return nil, fmt.Errorf("set %q: %w", s.Name, err)
			}
			var lab netip.Addr
			if prefix.Addr().Is4() {
				lab = netip.AddrFrom4([4]byte{10, 77, byte(1 + n4/250), byte(1 + n4%250)})
				n4++
			} else {
				n6++
				lab = netip.MustParseAddr(fmt.Sprintf("fd77::c:%x", n6))
			}
			if n4 > 250*250 || n6 > 0xffff {
				return nil, fmt.Errorf("too many addresses for a drill")
			}
			addresses[a.Prefix] = lab
			p.Addresses = append(p.Addresses, Pair{a.Prefix, lab.String()})
		}
	}
	return addresses, nil
}

// ask picks the addresses of a set that are asked: one of each family if it has
// both.
func ask(s *pb.VIPSet, addresses map[string]netip.Addr) []netip.Addr {
	var list []netip.Addr
	for _, a := range s.Addresses {
		list = append(list, addresses[a.Prefix])
	}
	i := slices.IndexFunc(list, func(a netip.Addr) bool { return a.Is4() != list[0].Is4() })
	if i > 0 {
		list = []netip.Addr{list[0], list[i]}
	}
	return list[:min(asked, len(list))]
}

func writeSet(b *strings.Builder, s *pb.VIPSet, hosts map[string]string, addresses map[string]netip.Addr) {
	fmt.Fprintf(b, "  - name: %s\n    addresses:\n", s.Name)
	for _, a := range s.Addresses {
		lab := addresses[a.Prefix]
		fmt.Fprintf(b, "      - %s/%d\n", lab, lab.BitLen())
	}
	b.WriteString("    hosts:\n")
	for _, c := range s.Candidates {
		fmt.Fprintf(b, "      - {host: %s, priority: %d}\n", hosts[c.Host], c.Priority)
	}
	fmt.Fprintf(b, "    preempt: %t\n    paused: %t\n", s.Preempt, s.Paused)
	if s.PreemptDelayMs != 0 {
		fmt.Fprintf(b, "    preempt_delay: %s\n", time.Duration(s.PreemptDelayMs)*time.Millisecond)
	}
	for _, label := range []Pair{{"sync_group", s.SyncGroup}, {"spread", s.Spread}, {"anti_affinity", s.AntiAffinity}} {
		if label.Lab != "" {
			fmt.Fprintf(b, "    %s: %s\n", label.User, label.Lab)
		}
	}
}
