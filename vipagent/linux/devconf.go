package linux

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"
)

// IPv4 settings of an interface: net.ipv4.conf.NAME.* by their numbers
// (IPV4_DEVCONF_*). By netlink they can be set where /proc/sys is read only, as it is in
// containers.
const (
	devconfRPFilter           = 8
	devconfARPFilter          = 13
	devconfARPAnnounce        = 18
	devconfARPIgnore          = 19
	devconfPromoteSecondaries = 20
	devconfAcceptLocal        = 23
)

const iflaInetConf = 1 // IFLA_INET_CONF

// devconfValue is a setting with its value.
type devconfValue struct {
	number uint16
	value  uint32
}

// setDevconf changes settings of an interface.
func (k *Kernel) setDevconf(index int, values ...devconfValue) error {
	var conf []byte
	for _, v := range values {
		conf = appendNative(conf, v.number, v.value)
	}
	body := linkBody(index)
	body = appendNest(body, unix.IFLA_AF_SPEC, appendNest(nil, unix.AF_INET, appendNest(nil, iflaInetConf, conf)))
	if err := k.writes.do([]message{{kind: unix.RTM_SETLINK, body: body}}, 1)[0]; err != nil {
		return fmt.Errorf("set IPv4 settings of interface %d: %w", index, err)
	}
	return nil
}

// devconf reads a setting of an interface.
func (k *Kernel) devconf(index int, number uint16) (uint32, error) {
	var value uint32
	found := false
	// A dump, as that is what a conn can read; it is rarely asked for.
	request := message{kind: unix.RTM_GETLINK, body: linkBody(0)}
	err := k.writes.dump(request, func() { found = false }, func(kind uint16, body []byte) error {
		if kind != unix.RTM_NEWLINK || len(body) < unix.SizeofIfInfomsg || int(binary.NativeEndian.Uint32(body[4:])) != index {
			return nil
		}
		conf, err := nested(body[unix.SizeofIfInfomsg:], unix.IFLA_AF_SPEC, unix.AF_INET, iflaInetConf)
		if at := 4 * (int(number) - 1); err == nil && len(conf) >= at+4 {
			value, found = binary.NativeEndian.Uint32(conf[at:]), true
		}
		return err
	})
	if err == nil && !found {
		err = ErrNoInterface
	}
	if err != nil {
		return 0, fmt.Errorf("read IPv4 settings of interface %d: %w", index, err)
	}
	return value, nil
}

// nested returns the value of an attribute within attributes; nil if one is missing.
func nested(b []byte, path ...uint16) ([]byte, error) {
	for _, want := range path {
		var inner []byte
		if err := attributes(b, func(kind uint16, v []byte) {
			if kind == want {
				inner = v
			}
		}); err != nil {
			return nil, err
		}
		b = inner
	}
	return b, nil
}

// linkBody is struct ifinfomsg: family, type, index, flags, change.
func linkBody(index int) []byte {
	b := make([]byte, unix.SizeofIfInfomsg, 64)
	binary.NativeEndian.PutUint32(b[4:], uint32(index))
	return b
}
