package interop

import (
	"cmp"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"holdfast/test/lab"
)

// setting is what the configurations of a cell's two hosts say. Host 0 has the
// higher priority unless a cell says otherwise. In all text {self4}, {peer4},
// {self6}, {peer6} and {disk} stand for the host's own addresses, the other's,
// and a directory of the host.
type setting struct {
	version   int
	interval  time.Duration // advert_int
	second    time.Duration // that of host 1, if it has another one
	priority  [2]int        // 0 = 150 and 100
	state     [2]string     // "" = BACKUP
	global    []string      // lines of global_defs
	blocks    []string      // lines before the instances
	instances []instance
	group     bool   // the instances are one vrrp_sync_group
	frr       string // vrrpd's configuration, with {priority}; "" = no cell for FRR
}

// instance is one vrrp_instance.
type instance struct {
	vrid  int
	vips  []string    // with prefix lengths
	lines []string    // on both hosts
	own   [2][]string // on each
	// What the advertisements must be like.
	password string
	unicast  bool
	vmac     bool
}

func (s setting) priorities() [2]int {
	if s.priority == [2]int{} {
		return [2]int{150, 100}
	}
	return s.priority
}

// advertInterval is a host's own advert_int.
func (s setting) advertInterval(host int) time.Duration {
	if host == 1 && s.second != 0 {
		return s.second
	}
	return s.interval
}

// skew is Skew_Time of a host that hears host 0: RFC 3768 section 6.1, RFC 9568 section 6.1.
func (s setting) skew(host int) time.Duration {
	unit := s.interval
	if s.version == 2 {
		unit = time.Second
	}
	return unit * time.Duration(256-s.priorities()[host]) / 256
}

// down is a host's Active_Down_Interval.
func (s setting) down(host int) time.Duration { return 3*s.interval + s.skew(host) }

// virtual returns the virtual routers of the setting.
func (s setting) virtual() []lab.VirtualRouter {
	var list []lab.VirtualRouter
	for _, i := range s.instances {
		list = append(list, i.router())
	}
	return list
}

func (i instance) router() lab.VirtualRouter {
	return lab.VirtualRouter{VRID: uint8(i.vrid), IPv6: i.addresses()[0].Is6()}
}

// addresses are the instance's VIPs.
func (i instance) addresses() []netip.Addr {
	var list []netip.Addr
	for _, v := range i.vips {
		list = append(list, netip.MustParsePrefix(v).Addr())
	}
	return list
}

// addresses are all VIPs of the setting.
func (s setting) addresses() []netip.Addr {
	var list []netip.Addr
	for _, i := range s.instances {
		list = append(list, i.addresses()...)
	}
	return list
}

// keepalived returns a host's keepalived.conf.
func (s setting) keepalived(hosts []*lab.Host, host int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "global_defs {\n    router_id %s\n    vrrp_version %d\n    script_user root\n", hosts[host].Name, s.version)
	if !lab.InUserNamespace() { // there, files of root are somebody else's
		b.WriteString("    enable_script_security\n")
	}
	lines(&b, s.global)
	b.WriteString("}\n")
	for _, block := range s.blocks {
		b.WriteString(block + "\n")
	}
	if s.group {
		b.WriteString("vrrp_sync_group all {\n    group {\n")
		for _, i := range s.instances {
			fmt.Fprintf(&b, "        vi_%d\n", i.vrid)
		}
		b.WriteString("    }\n}\n")
	}
	for _, i := range s.instances {
		fmt.Fprintf(&b, "vrrp_instance vi_%d {\n    state %s\n    interface %s\n    virtual_router_id %d\n    priority %d\n    advert_int %g\n",
			i.vrid, cmp.Or(s.state[host], "BACKUP"), lab.Interface, i.vrid, s.priorities()[host], s.advertInterval(host).Seconds())
		lines(&b, i.lines)
		lines(&b, i.own[host])
		b.WriteString("    virtual_ipaddress {\n")
		for _, v := range i.vips {
			fmt.Fprintf(&b, "        %s\n", v)
		}
		b.WriteString("    }\n}\n")
	}
	return replace(b.String(), hosts, host)
}

func lines(b *strings.Builder, list []string) {
	for _, line := range list {
		b.WriteString("    " + line + "\n")
	}
}

// vrrpd returns a host's configuration of FRR's vrrpd.
func (s setting) vrrpd(hosts []*lab.Host, host int) string {
	text := strings.ReplaceAll(s.frr, "{priority}", fmt.Sprint(s.priorities()[host]))
	return replace(text, hosts, host)
}

func replace(text string, hosts []*lab.Host, host int) string {
	self, peer := hosts[host], hosts[1-host]
	return strings.NewReplacer(
		"{self4}", self.IPv4.Addr().String(), "{peer4}", peer.IPv4.Addr().String(),
		"{self6}", self.IPv6.Addr().String(), "{peer6}", peer.IPv6.Addr().String(),
		"{disk}", self.Disk,
	).Replace(text)
}
