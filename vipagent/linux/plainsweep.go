package linux

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// SweepRoutes removes the routes and rules that bear [PlainProtocol], of all tables: a
// process that was killed left them. It returns how many there were.
func (k *Kernel) SweepRoutes() (int, error) {
	k.change.Lock()
	defer k.change.Unlock()
	count := 0
	var errs []error
	for _, s := range []struct {
		get, entry, remove uint16
		find               func([]byte) (bool, error)
	}{
		{unix.RTM_GETROUTE, unix.RTM_NEWROUTE, unix.RTM_DELROUTE, plainRoute},
		{unix.RTM_GETRULE, unix.RTM_NEWRULE, unix.RTM_DELRULE, plainRule},
	} {
		var doomed []message
		request := message{kind: s.get, body: make([]byte, unix.SizeofRtMsg)}
		err := k.writes.dump(request, func() { doomed = nil }, func(kind uint16, body []byte) error {
			if kind != s.entry {
				return nil
			}
			ours, err := s.find(body)
			if ours && err == nil {
				doomed = append(doomed, message{kind: s.remove, body: append([]byte(nil), body...)})
			}
			return err
		})
		if err != nil {
			errs = append(errs, fmt.Errorf("read routes and rules: %w", err))
		}
		count += len(doomed)
		for _, err := range k.writes.do(doomed, 1) {
			if err != nil && !errors.Is(err, unix.ESRCH) && !errors.Is(err, unix.ENOENT) {
				errs = append(errs, fmt.Errorf("remove what a former process left: %w", err))
			}
		}
	}
	return count, errors.Join(errs...)
}

// plainRoute reports whether the body of RTM_NEWROUTE bears the mark.
func plainRoute(b []byte) (bool, error) {
	if len(b) < unix.SizeofRtMsg {
		return false, fmt.Errorf("route message of %d bytes", len(b))
	}
	const cloned = unix.RTM_F_CLONED
	return b[5] == PlainProtocol && binary.NativeEndian.Uint32(b[8:])&cloned == 0, nil
}

// plainRule reports whether the body of RTM_NEWRULE bears the mark.
func plainRule(b []byte) (bool, error) {
	if len(b) < unix.SizeofRtMsg {
		return false, fmt.Errorf("rule message of %d bytes", len(b))
	}
	v, err := nested(b[unix.SizeofRtMsg:], unix.FRA_PROTOCOL)
	return err == nil && len(v) == 1 && v[0] == PlainProtocol, err
}
