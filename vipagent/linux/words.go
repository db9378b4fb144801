package linux

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// words are the words of a route or a rule, as ip(8) takes them and keepalived.conf has
// them. They are read from the front.
type words struct {
	rest  []string
	names names
	index func(iface string) (int, error)
}

// next takes a word off; false if there is none.
func (w *words) next() (string, bool) {
	if len(w.rest) == 0 {
		return "", false
	}
	x := w.rest[0]
	w.rest = w.rest[1:]
	return x, true
}

// skip takes a word off if it is this one.
func (w *words) skip(word string) bool {
	if len(w.rest) == 0 || w.rest[0] != word {
		return false
	}
	w.rest = w.rest[1:]
	return true
}

// value takes the value of a word off.
func (w *words) value(of string) (string, error) {
	x, ok := w.next()
	if !ok {
		return "", fmt.Errorf("%s lacks its value", of)
	}
	return x, nil
}

// number reads a number of so many bits.
func (w *words) number(of string, bits int) (uint32, error) {
	text, err := w.value(of)
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseUint(text, 0, bits)
	if err != nil {
		return 0, fmt.Errorf("%s %q is no number of %d bits", of, text, bits)
	}
	return uint32(n), nil
}

// named reads a number that may have a name.
func (w *words) named(of string, kind nameKind) (uint32, error) {
	text, err := w.value(of)
	if err != nil {
		return 0, err
	}
	n, err := w.names.number(kind, text)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", of, err)
	}
	return n, nil
}

// device reads the name of an interface that exists.
func (w *words) device(of string) (int, error) {
	name, err := w.value(of)
	if err != nil {
		return 0, err
	}
	index, err := w.index(name)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", of, err)
	}
	return index, nil
}

// address reads an address, perhaps with its family before it.
func (w *words) address(of string) (netip.Addr, error) {
	text, err := w.value(of)
	family := byte(unix.AF_UNSPEC)
	if err == nil && (text == "inet" || text == "inet6") {
		family = familyNamed(text)
		text, err = w.value(of)
	}
	if err != nil {
		return netip.Addr{}, err
	}
	a, err := netip.ParseAddr(text)
	if err != nil || a.Zone() != "" || family != unix.AF_UNSPEC && family != familyOf(a) {
		return netip.Addr{}, fmt.Errorf("%s %q is no such address", of, text)
	}
	return a, nil
}

// network reads a prefix.
func (w *words) network(of string) (netip.Prefix, error) {
	text, err := w.value(of)
	if err != nil {
		return netip.Prefix{}, err
	}
	p, ok := parseNetwork(text)
	if !ok {
		return netip.Prefix{}, fmt.Errorf("%s %q is no network", of, text)
	}
	return p, nil
}

// parseNetwork reads an address with or without a prefix length. What stands for all
// addresses is the zero prefix.
func parseNetwork(text string) (netip.Prefix, bool) {
	switch text {
	case "default", "all", "any":
		return netip.Prefix{}, true
	}
	if a, err := netip.ParseAddr(text); err == nil && a.Zone() == "" {
		return netip.PrefixFrom(a, a.BitLen()), true
	}
	p, err := netip.ParsePrefix(text)
	return p.Masked(), err == nil
}

// realms reads [source/]destination.
func (w *words) realms() (uint32, error) {
	text, err := w.value("realms")
	if err != nil {
		return 0, err
	}
	from, to, two := strings.Cut(text, "/")
	if !two {
		return w.names.number(nameRealm, text)
	}
	high, err := w.names.number(nameRealm, from)
	if err != nil {
		return 0, fmt.Errorf("realms: %w", err)
	}
	low, err := w.names.number(nameRealm, to)
	if err != nil {
		return 0, fmt.Errorf("realms: %w", err)
	}
	return high<<16 | low, nil
}

// milliseconds reads a time and returns it in units of 1/scale ms. Without a unit it is
// milliseconds.
func (w *words) milliseconds(of string, scale uint32) (uint32, error) {
	text, err := w.value(of)
	if err != nil {
		return 0, err
	}
	factor := 1.0
	number := text
	for _, unit := range []struct {
		suffix string
		factor float64
	}{{"msecs", 1}, {"msec", 1}, {"ms", 1}, {"secs", 1000}, {"sec", 1000}, {"s", 1000}} {
		if n, ok := strings.CutSuffix(text, unit.suffix); ok {
			number, factor = n, unit.factor
			break
		}
	}
	v, err := strconv.ParseFloat(number, 64)
	if v *= factor * float64(scale); err != nil || !(v >= 0 && v < 1<<32) {
		return 0, fmt.Errorf("%s %q is no time", of, text)
	}
	return uint32(v), nil
}

func familyNamed(word string) byte {
	if word == "inet6" {
		return unix.AF_INET6
	}
	return unix.AF_INET
}

func familyOf(a netip.Addr) byte {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

// family is what words say of the address family: all must say the same.
type family struct{ is byte }

func (f *family) agree(is byte, word string) error {
	if f.is != unix.AF_UNSPEC && f.is != is {
		return fmt.Errorf("%q: IPv4 and IPv6 together", word)
	}
	f.is = is
	return nil
}

// orIPv4 is the family; IPv4 if nothing tells.
func (f family) orIPv4() byte {
	if f.is == unix.AF_UNSPEC {
		return unix.AF_INET
	}
	return f.is
}
