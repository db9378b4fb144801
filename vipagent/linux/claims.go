package linux

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	claimEvery = time.Second // at most one report for each address and kind of claim
	namesEvery = time.Second // how long the list of our own interfaces is believed
)

// WatchClaims calls report when another host claims or is about to claim an
// address for which ours returns true, until ctx ends (nil) or a socket fails.
// Packets from the MACs of this host are not claims. An address is reported at
// most once a second for each kind of claim. ours is called for every ARP and
// neighbour packet, so it must be quick; both functions are called by two
// goroutines.
//
// The packets are whatever a host on the link cares to send: a claim is a reason
// to announce again and to tell somebody, not to give an address up.
func (k *Kernel) WatchClaims(ctx context.Context, ours func(netip.Addr) bool, report func(Claim)) error {
	arp, err := listen(etherARP, 0, arpFilter())
	if err != nil {
		return err
	}
	defer arp.conn.Close()
	neighbour, err := listen(etherIPv6, 0, neighbourFilter())
	if err != nil {
		return err
	}
	defer neighbour.conn.Close()

	w := &claimWatch{kernel: k, ours: ours, report: report, last: make(map[claimKey]time.Time)}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return w.run(ctx, arp, arpClaim) })
	g.Go(func() error { return w.run(ctx, neighbour, neighbourClaim) })
	return g.Wait()
}

type claimKey struct {
	address netip.Addr
	kind    ClaimKind
}

type claimWatch struct {
	kernel *Kernel
	ours   func(netip.Addr) bool
	report func(Claim)

	mu         sync.Mutex
	last       map[claimKey]time.Time // of the last report; at most as many as VIPs, pruned as they age
	interfaces []Interface            // of this host
	read       time.Time              // when that was
}

// run handles the frames of one listener.
func (w *claimWatch) run(ctx context.Context, l *listener, parse func([]byte) (Claim, bool)) error {
	defer interruptedBy(ctx, l.conn)()
	for {
		b, index, err := l.receive()
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return fmt.Errorf("watch claims: %w", err)
		}
		if c, ok := parse(b); ok && w.ours(c.Address) {
			w.consider(c, index, time.Now())
		}
	}
}

// consider reports a claim unless it is our own or was reported just now.
func (w *claimWatch) consider(c Claim, index int, now time.Time) {
	if !w.admit(&c, index, now) {
		return
	}
	w.report(c)
}

func (w *claimWatch) admit(c *Claim, index int, now time.Time) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	key := claimKey{c.Address, c.Kind}
	if at, ok := w.last[key]; ok && now.Sub(at) < claimEvery {
		return false
	}
	if now.Sub(w.read) >= namesEvery {
		interfaces, err := w.kernel.Interfaces()
		if err != nil {
			w.kernel.logger.Warn("cannot tell own packets from claims", "error", err)
			return false
		}
		w.interfaces, w.read = interfaces, now
	}
	if slices.ContainsFunc(w.interfaces, func(i Interface) bool { return sameMAC(i.MAC, c.MAC) }) {
		return false
	}
	if i := slices.IndexFunc(w.interfaces, func(i Interface) bool { return i.Index == index }); i >= 0 {
		c.Interface = w.interfaces[i].Name
	}
	for k, at := range w.last {
		if now.Sub(at) >= claimEvery {
			delete(w.last, k)
		}
	}
	w.last[key] = now
	c.MAC = slices.Clone(c.MAC) // from the buffer of the next packet
	return true
}

// arpClaim reads the claim in an ARP frame. A packet with a sender address
// claims it, whatever its operation; a probe (RFC 5227) has none.
func arpClaim(b []byte) (Claim, bool) {
	p, err := parseARP(b)
	if err != nil {
		return Claim{}, false
	}
	switch {
	case !p.SenderIP.IsUnspecified():
		return Claim{Kind: ClaimARP, Address: p.SenderIP, MAC: p.SenderMAC}, true
	case p.Operation == arpRequest:
		return Claim{Kind: ProbeARP, Address: p.TargetIP, MAC: p.SenderMAC}, true
	}
	return Claim{}, false
}

// neighbourClaim reads the claim in a neighbour discovery frame.
func neighbourClaim(b []byte) (Claim, bool) {
	p, err := parseNeighbour(b)
	switch {
	case err != nil:
		return Claim{}, false
	case p.Type == solicitation:
		return Claim{Kind: ProbeDAD, Address: p.Target, MAC: p.SourceMAC}, p.Source.IsUnspecified()
	}
	mac := p.MAC
	if len(mac) == 0 {
		mac = p.SourceMAC
	}
	return Claim{Kind: ClaimNA, Address: p.Target, MAC: mac}, true
}
