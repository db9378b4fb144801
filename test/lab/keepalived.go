package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// KeepalivedConfig says how keepalived is to hold some addresses.
type KeepalivedConfig struct {
	Path      string        // of the program
	Version   int           // of VRRP: 2 or 3
	Interval  time.Duration // between two advertisements
	Addresses []netip.Addr  // the first one must be of IPv4
	// Fault returns a file of the host; while it exists, a check of keepalived
	// fails there. nil: there is no check.
	Fault func(*Host) string
}

// Keepalived runs Debian's keepalived on every host of a network, as Cluster
// runs Holdfast. The hosts' priorities are 110, 100, 90, ...; the highest one
// takes the addresses back when it returns, which is keepalived's default.
type Keepalived struct {
	network *Network
	config  KeepalivedConfig

	mu      sync.Mutex
	daemons map[*Host]*Process
}

// FindKeepalived returns the path of the program. It is not in everybody's
// search path.
func FindKeepalived() (string, error) {
	for _, name := range []string{"keepalived", "/usr/sbin/keepalived"} {
		if path, err := exec.LookPath(name); err == nil {
			return filepath.Abs(path)
		}
	}
	return "", errors.New("find keepalived: it is not installed (test/setup.sh keepalived:keepalived)")
}

// NewKeepalived prepares keepalived on every host. Nothing runs yet.
func (n *Network) NewKeepalived(config KeepalivedConfig) *Keepalived {
	return &Keepalived{network: n, config: config, daemons: make(map[*Host]*Process)}
}

// Start starts all daemons.
func (k *Keepalived) Start() error {
	for i := range k.network.Hosts {
		if err := k.start(i); err != nil {
			return err
		}
	}
	return nil
}

// start starts the daemon of one host. Everything that it writes is on the
// host's disk: the configuration of the machine and its /run are not touched.
func (k *Keepalived) start(i int) error {
	h := k.network.Hosts[i]
	var fault string
	if k.config.Fault != nil {
		fault = k.config.Fault(h)
	}
	r := &keepalivedRouter{name: "keepalived", path: k.config.Path, host: h}
	if err := r.Start(k.config.text(h.Name, priority(i), fault)); err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.daemons[h] = r.process
	return nil
}

func priority(i int) int { return 110 - 10*i }

// text is a host's keepalived.conf. One instance holds all addresses; those
// of IPv6 are "excluded" from the advertisement, as keepalived's manual has it
// for mixed sets.
func (c KeepalivedConfig) text(host string, priority int, fault string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "global_defs {\n    router_id %s\n    vrrp_version %d\n    script_user root\n    enable_script_security\n}\n", host, c.Version)
	if fault != "" {
		fmt.Fprintf(&b, "vrrp_script maintenance {\n    script \"/usr/bin/test ! -e %s\"\n    interval 1\n    fall 1\n    rise 1\n}\n", fault)
	}
	fmt.Fprintf(&b, "vrrp_instance web {\n    state BACKUP\n    interface %s\n    virtual_router_id 51\n    priority %d\n    advert_int %g\n",
		Interface, priority, c.Interval.Seconds())
	for _, part := range []struct {
		block string
		v6    bool
	}{{"virtual_ipaddress", false}, {"virtual_ipaddress_excluded", true}} {
		fmt.Fprintf(&b, "    %s {\n", part.block)
		for _, a := range c.Addresses {
			if a.Is6() == part.v6 {
				fmt.Fprintf(&b, "        %s/%d\n", a, a.BitLen())
			}
		}
		b.WriteString("    }\n")
	}
	if fault != "" {
		b.WriteString("    track_script {\n        maintenance\n    }\n")
	}
	b.WriteString("}\n")
	return b.String()
}

// Ready returns nil when all daemons run.
func (k *Keepalived) Ready(context.Context) error {
	for _, h := range k.network.Hosts {
		if p := k.daemon(h); p == nil || !p.Running() {
			return fmt.Errorf("keepalived does not run on %s", h.Name)
		}
	}
	return nil
}

// Holder returns the host that has the addresses when all is well: the one with
// the highest priority.
func (k *Keepalived) Holder(context.Context, string) (string, error) {
	return k.network.Hosts[0].Name, nil
}

// Move fails unless the host is the one with the highest priority: keepalived
// has no other way to move an address than a change of its configuration.
func (k *Keepalived) Move(_ context.Context, _ string, to *Host) error {
	if to != k.network.Hosts[0] {
		return fmt.Errorf("keepalived cannot move an address to %s", to.Name)
	}
	return nil
}

// Daemons returns the host's latest daemon, which is all that keepalived runs
// there.
func (k *Keepalived) Daemons(h *Host) []*Process { return []*Process{k.daemon(h)} }

// daemon returns the host's latest daemon, nil if there was none yet.
func (k *Keepalived) daemon(h *Host) *Process {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.daemons[h]
}

// Repair brings back what a scenario broke: power, links, losses, the trunk,
// frozen processes, and daemons that do not run.
func (k *Keepalived) Repair(ctx context.Context) error {
	if err := k.network.Repair(); err != nil {
		return err
	}
	for i, h := range k.network.Hosts {
		if p := k.daemon(h); p != nil && p.Running() {
			if err := p.Thaw(); err != nil {
				return err
			}
			continue
		}
		if err := k.start(i); err != nil {
			return err
		}
	}
	return k.Ready(ctx)
}
