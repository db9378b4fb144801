package main

import (
	"context"
	"net/netip"
	"os"
	"time"

	"holdfast/vipagent/linux"
	"holdfast/vipagent/router"
	"holdfast/vipagent/vip"
)

// plainClock is CLOCK_BOOTTIME: it goes on while the host sleeps.
type plainClock struct{}

func (plainClock) Now() time.Duration { return time.Duration(linux.Boottime()) }

// plainLinks are the interfaces of the kernel.
type plainLinks struct{ kernel *linux.Kernel }

func (l plainLinks) Links() ([]router.Link, error) {
	interfaces, err := l.kernel.Interfaces()
	if err != nil {
		return nil, err
	}
	addresses, err := l.kernel.Addresses()
	if err != nil {
		return nil, err
	}
	byName := make(map[string][]netip.Prefix)
	for _, secondary := range []bool{false, true} { // primary addresses come first, as the kernel has them
		for _, a := range addresses {
			if a.Flags&vip.Secondary != 0 == secondary {
				byName[a.Interface] = append(byName[a.Interface], a.Prefix)
			}
		}
	}
	out := make([]router.Link, len(interfaces))
	for i, x := range interfaces {
		out[i] = router.Link{Name: x.Name, Index: x.Index, Up: x.Up, Addresses: byName[x.Name]}
	}
	return out, nil
}

func (l plainLinks) Watch(ctx context.Context, changed func()) error {
	return l.kernel.Watch(ctx, func(linux.Event) { changed() })
}

// plainHost is all that the router asks of this host.
type plainHost struct {
	links     plainLinks
	addresses plainAddresses
	routes    plainRoutes
	macs      plainMACs
	sockets   plainSockets
	scripts   *plainScripts
	files     *plainFiles
}

func newPlainHost(k *linux.Kernel, mask os.FileMode) *plainHost {
	return &plainHost{links: plainLinks{k}, addresses: plainAddresses{k}, routes: plainRoutes{k}, macs: plainMACs{k}, sockets: plainSockets{k}, scripts: &plainScripts{}, files: &plainFiles{mask: mask}}
}

func (h *plainHost) close() { h.files.Close() }
