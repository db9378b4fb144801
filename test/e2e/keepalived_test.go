package e2e

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"holdfast/test/lab"
)

// startRouter runs Keepalived with a configuration on a host.
func startRouter(t *testing.T, h *lab.Host, config string) lab.Router {
	t.Helper()
	path, err := lab.FindKeepalived()
	check(t, err)
	r := lab.KeepalivedRouter(path)(h)
	check(t, r.Start(config))
	return r
}

// startKeepalived runs Keepalived with version 2 and a password on a host.
func startKeepalived(t *testing.T, h *lab.Host, priority int) lab.Router {
	t.Helper()
	return startRouter(t, h, fmt.Sprintf(`vrrp_instance web {
    state BACKUP
    interface %s
    virtual_router_id 51
    priority %d
    authentication {
        auth_type PASS
        auth_pass secret
    }
    virtual_ipaddress {
        %s/32
    }
}
`, lab.Interface, priority, vip4))
}

// keepalivedFile is the configuration of the Keepalived on a host.
func keepalivedFile(h *lab.Host) string { return filepath.Join(h.Disk, "keepalived.conf") }

// pairOfKeepalived is a pair of hosts with Keepalived, and a third one as witness.
type pairOfKeepalived struct {
	*lab.Network
	recorder       *lab.Recorder
	first, second  *lab.Host
	active, backup lab.Router
}

// startPair starts the pair, and waits until the first host has the address.
func startPair(t *testing.T) (pairOfKeepalived, context.Context) {
	t.Helper()
	n, _ := ownNetwork(t, lab.Standard())
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	t.Cleanup(cancel)
	r, err := n.StartRecorder(0, vip4)
	check(t, err)
	t.Cleanup(func() { check(t, r.Close()) })
	p := pairOfKeepalived{Network: n, recorder: r, first: n.Hosts[0], second: n.Hosts[1]}
	p.active, p.backup = startKeepalived(t, p.first, 150), startKeepalived(t, p.second, 100)
	eventually(ctx, t, 10*time.Second, func() error { return heldBy(r, p.first.Name) })
	return p, ctx
}
