package translate

import (
	"fmt"
	"slices"
	"strings"

	"holdfast/vipagent/keepalived"
)

// unmatched remarks on what the parser handles and a VIP set has not.
func (b *builder) unmatched() {
	c := b.host.Config
	for i := range c.Instances {
		b.instance(&c.Instances[i])
	}
	for _, g := range c.Groups {
		b.notify("vrrp_sync_group "+g.Name, g.At, &g.Notify)
	}
	b.global(&c.Global)
	if n := len(c.StaticAddresses); n > 0 {
		b.unhandled(c.StaticAddresses[0].At, "static_ipaddress", "configure them with the host's network", "%s set at start: an agent sets addresses of VIP sets only", count(n, "static address", "static addresses"))
	}
	if n := len(c.StaticRoutes); n > 0 {
		b.unhandled(c.StaticRoutes[0].At, "static_routes", "configure them with the host's network", "%s set at start: an agent sets no routes", count(n, "static route", "static routes"))
	}
	if n := len(c.StaticRules); n > 0 {
		b.unhandled(c.StaticRules[0].At, "static_rules", "configure them with the host's network", "%s set at start: an agent sets no rules", count(n, "static rule", "static rules"))
	}
}

func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

const (
	eventHint = "follow `coordctl events --watch`, or ask `coordctl status -o json`"
	wireHint  = "the addresses move without it; `coordctl migrate` shows that peers take it"
)

func (b *builder) instance(i *keepalived.Instance) {
	name := "vrrp_instance " + i.Name
	b.notify(name, i.At, &i.Notify)
	if n := len(i.Routes); n > 0 {
		b.unhandled(i.Routes[0].At, "virtual_routes", "make them static on all hosts if they do no harm without the address", "%s of %s: an agent moves addresses only", count(n, "route", "routes"), name)
	}
	if n := len(i.Rules); n > 0 {
		b.unhandled(i.Rules[0].At, "virtual_rules", "make them static on all hosts if they do no harm without the address", "%s of %s: an agent moves addresses only", count(n, "rule", "rules"), name)
	}
	for _, a := range slices.Concat(i.Addresses, i.Excluded) {
		b.address(a)
	}
	if v := i.VMAC; v != nil {
		keyword := "use_vmac"
		if v.IPVLAN {
			keyword = "use_ipvlan"
		}
		b.unhandled(i.Where(keyword), keyword, "neighbours are told of the new MAC address with each move", "%s has the addresses on an interface of its own; a VIP set has them on the host's, with its MAC address", name)
	}
	for _, x := range []struct {
		keyword string
		given   bool
		hint    string
		message string
	}{
		{"unicast_src_ip", i.Source.IsValid() && len(i.Peers) > 0, "it must be the first address of the interface (ip address show)", "advertisements leave from the first address of the interface"},
		{"mcast_src_ip", i.Source.IsValid() && len(i.Peers) == 0, "", "advertisements leave from the first address of the interface"},
		{"down_timer_adverts", i.DownAdverts != 0 && i.DownAdverts != 3, wireHint, "an Active router is silent after three intervals"},
		{"unicast_ttl", i.UnicastTTL != 0, wireHint, "the TTL of advertisements is 255"},
		{"no_accept", !i.Accept, "drop them in the host's firewall", "packets to the addresses are accepted"},
		{"strict_mode", i.Strict, "", "a VIP set has no strict mode"},
		{"promote_secondaries", i.PromoteSecondary, "set the kernel's promote_secondaries with sysctl", "the agent does not change this setting of the interface"},
		{"owner_ignore_adverts", i.OwnerIgnores, "", "a VIP set never owns its addresses: it listens to all"},
	} {
		if x.given {
			b.unhandled(i.Where(x.keyword), x.keyword, x.hint, "%s of %s: %s", x.keyword, name, x.message)
		}
	}
}

// address remarks on what an address of a VIP set has not.
func (b *builder) address(a keepalived.Address) {
	var options []string
	for _, o := range []struct {
		word  string
		given bool
	}{
		{"label " + a.Label, a.Label != ""}, {"scope " + a.Scope, a.Scope != ""}, {"brd " + a.Broadcast.String(), a.Broadcast.IsValid()},
		{"peer " + a.Peer.String(), a.Peer.IsValid()}, {"no_track", a.NoTrack}, {strings.Join(a.Options, " "), len(a.Options) > 0},
	} {
		if o.given {
			options = append(options, o.word)
		}
	}
	if len(options) > 0 {
		b.unhandled(a.At, "virtual_ipaddress", "", "%s is set without %s", a.Prefix.Addr(), strings.Join(options, ", "))
	}
}

func (b *builder) notify(of string, at keepalived.Position, n *keepalived.Notify) {
	for _, x := range []struct {
		keyword string
		command *keepalived.Command
	}{
		{"notify_master", n.Active}, {"notify_backup", n.Backup}, {"notify_fault", n.Fault}, {"notify_stop", n.Stop},
		{"notify_deleted", n.Deleted}, {"notify_master_rx_lower_pri", n.LowerPriority}, {"notify", n.Any},
	} {
		if x.command != nil {
			b.unhandled(x.command.At, x.keyword, eventHint, "%s of %s: an agent runs no programs when an address moves (%s)", x.keyword, of, x.command.Args[0])
		}
	}
	if n.Email {
		b.unhandled(at, "smtp_alert", eventHint, "smtp_alert of %s: nobody is mailed", of)
	}
}

func (b *builder) global(g *keepalived.Global) {
	at := keepalived.Position{File: b.host.File, Line: 1, Column: 1}
	for _, f := range g.NotifyFIFOs {
		keyword := "notify_fifo"
		if f.VRRP {
			keyword = "vrrp_notify_fifo"
		}
		if f.Script != nil {
			b.unhandled(f.Script.At, keyword+"_script", eventHint, "%s_script: an agent runs no programs when an address moves (%s)", keyword, f.Script.Args[0])
		} else {
			b.unhandled(at, keyword, eventHint, "%s: an agent writes no FIFO (%s)", keyword, f.Path)
		}
	}
	for _, x := range []struct {
		keyword string
		command *keepalived.Command
	}{{"startup_script", g.StartupScript}, {"shutdown_script", g.ShutdownScript}} {
		if x.command != nil {
			b.unhandled(x.command.At, x.keyword, "run it from the agent's service unit (ExecStartPre, ExecStopPost)", "%s: an agent does not run it (%s)", x.keyword, x.command.Args[0])
		}
	}
	if g.NetNamespace != "" {
		b.unhandled(at, "net_namespace", "start the agent there (NetworkNamespacePath in its service unit)", "net_namespace %s: an agent stays where it is started", g.NetNamespace)
	}
}
