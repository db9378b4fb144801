package gossip

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"

	"github.com/hashicorp/memberlist"
)

// checked is what New takes out of a valid Config.
type checked struct {
	bind, advertise netip.AddrPort
	keyring         *memberlist.Keyring
	meta            []byte
}

func check(c Config) (checked, error) {
	var out checked
	fail := func(field string, err error) (checked, error) {
		return checked{}, &ConfigError{Field: field, Err: err}
	}
	if _, _, err := parseName(c.Role + "/" + c.Host); err != nil {
		return fail("name", err)
	}
	var err error
	if out.keyring, err = newKeyring(c.Keys); err != nil {
		return fail("keys", err)
	}
	if out.meta, err = c.Meta.encode(); err != nil {
		return fail("meta", err)
	}
	if out.bind, err = netip.ParseAddrPort(c.Bind); err != nil {
		return fail("bind", fmt.Errorf("%q is not ip:port", c.Bind))
	}
	out.advertise = out.bind
	if c.Advertise != "" {
		if out.advertise, err = netip.ParseAddrPort(c.Advertise); err != nil {
			return fail("advertise", fmt.Errorf("%q is not ip:port", c.Advertise))
		}
	}
	out.advertise = netip.AddrPortFrom(out.advertise.Addr().Unmap(), out.advertise.Port())
	// Guessing an address would put a wrong one into every other node's
	// table on a host with several networks.
	if a := out.advertise.Addr(); a.IsUnspecified() || a.IsMulticast() || a.Zone() != "" {
		return fail("advertise", fmt.Errorf("others cannot send to %s: name the address to advertise", a))
	}
	for _, s := range c.Seeds {
		if err := checkSeed(s); err != nil {
			return fail("seeds", err)
		}
	}
	return out, nil
}

func checkSeed(s string) error {
	host, port, err := net.SplitHostPort(s)
	if err != nil || host == "" {
		return fmt.Errorf("%q is not host:port", s)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return fmt.Errorf("%q has no usable port", s)
	}
	return nil
}

func newKeyring(keys [][]byte) (*memberlist.Keyring, error) {
	if len(keys) == 0 {
		return nil, ErrNoKey
	}
	for i, k := range keys {
		if err := memberlist.ValidateKey(k); err != nil {
			return nil, fmt.Errorf("key %d has %d bytes: must be 16, 24 or 32", i+1, len(k))
		}
	}
	ring, err := memberlist.NewKeyring(keys, keys[0])
	if err != nil {
		return nil, errors.Join(ErrNoKey, err)
	}
	return ring, nil
}
