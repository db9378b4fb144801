package health

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// maxRead bounds what is read of a file or a web page, in bytes.
const maxRead = 1 << 20

// fileProbe looks at a file; see [Check].
type fileProbe struct{ Check }

func (f fileProbe) probe(context.Context) (int, error) {
	if f.Contains == "" && !f.ReadWeight {
		_, err := os.Stat(f.Path)
		switch {
		case f.Absent && err == nil:
			return 0, fmt.Errorf("%s is there", f.Path)
		case f.Absent && errors.Is(err, fs.ErrNotExist):
			return 0, nil
		}
		return 0, err
	}
	text, err := readRegular(f.Path, maxRead)
	if err != nil {
		return 0, err
	}
	if f.Contains != "" {
		if !bytes.Contains(text, []byte(f.Contains)) {
			return 0, fmt.Errorf("%s does not have %q", f.Path, f.Contains)
		}
		return 0, nil
	}
	weight, err := strconv.Atoi(strings.TrimSpace(string(text[:min(len(text), 64)])))
	if err != nil || weight < -MaxWeight || weight > MaxWeight {
		return 0, fmt.Errorf("%s must have a number from %d to %d", f.Path, -MaxWeight, MaxWeight)
	}
	return weight, nil
}

// readRegular reads the first limit bytes of a regular file. Opening a pipe or
// a device does not block and is an error.
func readRegular(path string, limit int64) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	return io.ReadAll(io.LimitReader(f, limit))
}

// interfaceProbe wants an interface to be up, with carrier. The owner of the
// checks pokes it when the kernel reports a change ([Runner.LinkChanged]). That
// is not enough: the kernel reports a second loss within a second up to 0.7 s
// late. So it also asks at its interval, and asks the driver, which is not late.
type interfaceProbe struct{ name string }

func (p interfaceProbe) probe(context.Context) (int, error) {
	iface, err := net.InterfaceByName(p.name)
	switch {
	case err != nil:
		return 0, fmt.Errorf("interface %s: %w", p.name, err)
	case iface.Flags&net.FlagUp == 0:
		return 0, fmt.Errorf("interface %s is down", p.name)
	}
	if carrier, err := linkCarrier(p.name); err == nil && !carrier {
		return 0, fmt.Errorf("interface %s has no carrier", p.name)
	}
	if iface.Flags&net.FlagRunning == 0 {
		return 0, fmt.Errorf("interface %s is not operational", p.name)
	}
	return 0, nil
}

// linkCarrier asks the driver with ETHTOOL_GLINK, which works in the network
// namespace of the caller (sysfs shows that of whoever mounted it) and needs no
// rights. Drivers that cannot say return an error.
func linkCarrier(name string) (bool, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return false, os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	value := struct{ cmd, data uint32 }{cmd: unix.ETHTOOL_GLINK}
	request := struct {
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		_    [16]byte // the kernel's union is longer than a pointer
	}{data: unsafe.Pointer(&value)}
	copy(request.name[:unix.IFNAMSIZ-1], name)
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&request)))
	if errno != 0 {
		return false, os.NewSyscallError("ioctl ETHTOOL_GLINK", errno)
	}
	return value.data != 0, nil
}

// gatewayProbe wants an on-link router to answer.
type gatewayProbe struct {
	reach   func(ctx context.Context, address netip.Addr, iface string) error
	address netip.Addr
	iface   string
}

func (p gatewayProbe) probe(ctx context.Context) (int, error) {
	return 0, p.reach(ctx, p.address, p.iface)
}
