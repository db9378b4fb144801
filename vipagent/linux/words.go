package linux

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// routeProtocol is Keepalived's, so that "ip route show proto keepalived" goes on
// showing virtual routes.
const routeProtocol = unix.RTPROT_KEEPALIVED

// words are the words of a route or a rule, as ip(8) takes them.
type words struct {
	k    *Kernel
	rest []string
}

func (w *words) next(of string) (string, error) {
	if len(w.rest) == 0 {
		return "", fmt.Errorf("%s lacks its value", of)
	}
	x := w.rest[0]
	w.rest = w.rest[1:]
	return x, nil
}

func (w *words) number(of string) (int, error) {
	text, err := w.next(of)
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseInt(text, 0, 64)
	if err != nil || n < 0 || n > 1<<32-1 {
		return 0, fmt.Errorf("%s %q is no number", of, text)
	}
	return int(n), nil
}

// named reads a number or a name of a table in /etc/iproute2.
func (w *words) named(of, file string, known map[string]int) (int, error) {
	text, err := w.next(of)
	if err != nil {
		return 0, err
	}
	if n, ok := known[text]; ok {
		return n, nil
	}
	if n, err := strconv.ParseUint(text, 0, 32); err == nil {
		return int(n), nil
	}
	for _, dir := range []string{"/etc/iproute2/", "/usr/share/iproute2/", "/usr/lib/iproute2/"} {
		content, err := os.ReadFile(dir + file)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(content)) {
			if f := strings.Fields(line); len(f) >= 2 && f[1] == text {
				if n, err := strconv.ParseUint(f[0], 0, 32); err == nil {
					return int(n), nil
				}
			}
		}
	}
	return 0, fmt.Errorf("unknown %s %q", of, text)
}

func (w *words) table() (int, error) {
	return w.named("table", "rt_tables", map[string]int{"main": unix.RT_TABLE_MAIN, "default": unix.RT_TABLE_DEFAULT, "local": unix.RT_TABLE_LOCAL})
}

func (w *words) index(of string) (int, error) {
	name, err := w.next(of)
	if err != nil {
		return 0, err
	}
	return w.k.indexOf(name)
}

func (w *words) address(of string) (net.IP, error) {
	text, err := w.next(of)
	if err == nil && (text == "inet" || text == "inet6") {
		text, err = w.next(of)
	}
	if err != nil {
		return nil, err
	}
	a, err := netip.ParseAddr(text)
	if err != nil {
		return nil, fmt.Errorf("%s %q is no address", of, text)
	}
	return a.AsSlice(), nil
}

// network reads an address with or without a prefix length; "default" and "all" are nil.
func network(text string) (*net.IPNet, error) {
	if text == "default" || text == "all" || text == "any" {
		return nil, nil
	}
	if a, err := netip.ParseAddr(text); err == nil {
		return &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(a.BitLen(), a.BitLen())}, nil
	}
	p, err := netip.ParsePrefix(text)
	if err != nil {
		return nil, fmt.Errorf("%q is no network", text)
	}
	return &net.IPNet{IP: p.Masked().Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}, nil
}

// routeTypes are the kinds of routes that go nowhere or elsewhere.
func routeTypes() map[string]int {
	return map[string]int{
		"unicast": unix.RTN_UNICAST, "local": unix.RTN_LOCAL, "broadcast": unix.RTN_BROADCAST, "anycast": unix.RTN_ANYCAST,
		"multicast": unix.RTN_MULTICAST, "blackhole": unix.RTN_BLACKHOLE, "unreachable": unix.RTN_UNREACHABLE,
		"prohibit": unix.RTN_PROHIBIT, "throw": unix.RTN_THROW,
	}
}

func scopes() map[string]int {
	return map[string]int{"global": unix.RT_SCOPE_UNIVERSE, "universe": unix.RT_SCOPE_UNIVERSE, "site": unix.RT_SCOPE_SITE, "link": unix.RT_SCOPE_LINK, "host": unix.RT_SCOPE_HOST, "nowhere": unix.RT_SCOPE_NOWHERE}
}

// route makes sense of the words of a route.
func (k *Kernel) route(text []string) (*netlink.Route, error) {
	r := &netlink.Route{Protocol: routeProtocol, Table: unix.RT_TABLE_MAIN}
	w := &words{k, text}
	named := false
	for len(w.rest) > 0 {
		word := w.rest[0]
		w.rest = w.rest[1:]
		if kind, ok := routeTypes()[word]; ok {
			r.Type = kind
			continue
		}
		known, err := w.routeWord(r, word)
		if err != nil {
			return nil, err
		}
		if known {
			continue
		}
		if named {
			return nil, fmt.Errorf("cannot do %q", word)
		}
		named = true
		if r.Dst, err = network(word); err != nil {
			return nil, err
		}
	}
	if !named {
		return nil, errors.New("no destination")
	}
	return r, nil
}

func (w *words) routeWord(r *netlink.Route, word string) (known bool, err error) {
	switch word {
	case "to", "dst":
		return true, nil // the destination follows
	case "via", "gw":
		r.Gw, err = w.address(word)
	case "or":
		return true, errors.New("cannot do several next hops")
	case "src":
		r.Src, err = w.address(word)
	case "dev", "oif":
		r.LinkIndex, err = w.index(word)
	case "table":
		r.Table, err = w.table()
	case "metric", "priority", "preference":
		r.Priority, err = w.number(word)
	case "mtu":
		r.MTU, err = w.number(word)
	case "advmss":
		r.AdvMSS, err = w.number(word)
	case "initcwnd":
		r.InitCwnd, err = w.number(word)
	case "tos", "dsfield":
		r.Tos, err = w.number(word)
	case "onlink":
		r.Flags |= int(netlink.FLAG_ONLINK)
	case "proto", "protocol":
		var n int
		n, err = w.named(word, "rt_protos", map[string]int{"static": unix.RTPROT_STATIC, "kernel": unix.RTPROT_KERNEL, "boot": unix.RTPROT_BOOT})
		r.Protocol = netlink.RouteProtocol(n)
	case "scope":
		var n int
		n, err = w.named(word, "rt_scopes", scopes())
		r.Scope = netlink.Scope(n)
	default:
		return false, nil
	}
	return true, err
}

// AddRoute adds a route in the words of ip(8), before others to the same place, as
// Keepalived does; one that is there is fine.
func (k *Kernel) AddRoute(text []string) error {
	r, err := k.route(text)
	if err == nil {
		err = k.links.RouteAdd(r)
	}
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("add route %s: %w", strings.Join(text, " "), err)
	}
	return nil
}

// RemoveRoute removes a route; one that is not there is fine.
func (k *Kernel) RemoveRoute(text []string) error {
	r, err := k.route(text)
	if errors.Is(err, ErrNoInterface) {
		return nil
	}
	if err == nil {
		err = k.links.RouteDel(r)
	}
	if err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("remove route %s: %w", strings.Join(text, " "), err)
	}
	return nil
}

// rule makes sense of the words of a rule.
func (k *Kernel) rule(text []string) (*netlink.Rule, error) {
	r := netlink.NewRule()
	r.Table = unix.RT_TABLE_MAIN
	r.Protocol = routeProtocol
	r.Family = unix.AF_INET
	w := &words{k, slices.Clone(text)}
	for len(w.rest) > 0 {
		word := w.rest[0]
		w.rest = w.rest[1:]
		if err := w.ruleWord(r, word); err != nil {
			return nil, err
		}
	}
	for _, n := range []*net.IPNet{r.Src, r.Dst} {
		if n != nil && n.IP.To4() == nil {
			r.Family = unix.AF_INET6
		}
	}
	return r, nil
}

func (w *words) ruleWord(r *netlink.Rule, word string) (err error) {
	switch word {
	case "from", "to":
		var text string
		if text, err = w.next(word); err != nil {
			return err
		}
		n, err := network(text)
		if word == "from" {
			r.Src = n
		} else {
			r.Dst = n
		}
		return err
	case "not":
		r.Invert = true
	case "inet", "inet6":
		if word == "inet6" {
			r.Family = unix.AF_INET6
		}
	case "table", "lookup":
		r.Table, err = w.table()
	case "priority", "preference", "order", "pref":
		r.Priority, err = w.number(word)
	case "iif", "dev":
		r.IifName, err = w.next(word)
	case "oif":
		r.OifName, err = w.next(word)
	case "tos", "dsfield":
		var n int
		n, err = w.number(word)
		r.Tos = uint(n)
	case "fwmark":
		return w.mark(r)
	case "goto":
		r.Goto, err = w.number(word)
	case "suppress_prefixlength":
		r.SuppressPrefixlen, err = w.number(word)
	case "prohibit", "blackhole", "unreachable":
		r.Type = uint8(routeTypes()[word])
	default:
		return fmt.Errorf("cannot do %q", word)
	}
	return err
}

// mark reads MARK[/MASK].
func (w *words) mark(r *netlink.Rule) error {
	text, err := w.next("fwmark")
	if err != nil {
		return err
	}
	mark, mask, hasMask := strings.Cut(text, "/")
	n, err := strconv.ParseUint(mark, 0, 32)
	if err != nil {
		return fmt.Errorf("fwmark %q is no number", text)
	}
	r.Mark = uint32(n)
	if hasMask {
		if n, err = strconv.ParseUint(mask, 0, 32); err != nil {
			return fmt.Errorf("fwmark %q is no number", text)
		}
		m := uint32(n)
		r.Mask = &m
	}
	return nil
}

// AddRule adds a rule in the words of ip(8); one that is there is fine.
func (k *Kernel) AddRule(text []string) error {
	r, err := k.rule(text)
	if err == nil {
		err = k.links.RuleAdd(r)
	}
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("add rule %s: %w", strings.Join(text, " "), err)
	}
	return nil
}

// RemoveRule removes a rule; one that is not there is fine.
func (k *Kernel) RemoveRule(text []string) error {
	r, err := k.rule(text)
	if err == nil {
		err = k.links.RuleDel(r)
	}
	if err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.EADDRNOTAVAIL) {
		return fmt.Errorf("remove rule %s: %w", strings.Join(text, " "), err)
	}
	return nil
}
