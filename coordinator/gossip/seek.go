package gossip

import (
	"context"
	"net"
	"net/netip"
	"time"

	"github.com/hashicorp/memberlist"
	"golang.org/x/sync/errgroup"
)

// How a node that is missing is looked for. One try is one TCP connection.
const (
	resolveTimeout = time.Second
	// After so many tries in vain the next ones come only every slowInterval.
	quickTries   = 60
	slowInterval = 5 * time.Second
	// A seed that answers and yet is no member by that address (a name for
	// several hosts, an address translation) is asked again only so often.
	metInterval = 30 * time.Second
)

// target is a seed or the address of a missing coordinator.
type target struct {
	addrs  []netip.AddrPort // empty until a seed's name is resolved
	next   time.Time        // not before
	fails  int              // tries in vain since the last success
	busy   bool             // a try is under way
	tried  bool
	wanted bool // still missing at the last look
}

// seeker joins seeds and missing coordinators, each on its own goroutine, so
// that one which does not answer delays no other. Its fields belong to run.
type seeker struct {
	g       *Gossip
	list    *memberlist.Memberlist
	targets map[string]*target // by seed as written, or ip:port
	isReady bool
}

// joined is the end of one try.
type joined struct {
	key   string
	addrs []netip.AddrPort
	err   error
}

func newSeeker(g *Gossip, list *memberlist.Memberlist) *seeker {
	s := &seeker{g: g, list: list, targets: make(map[string]*target)}
	for _, seed := range g.seeds {
		t := &target{}
		if a, err := netip.ParseAddrPort(seed); err == nil {
			t.addrs = []netip.AddrPort{netip.AddrPortFrom(a.Addr().Unmap(), a.Port())}
		}
		s.targets[seed] = t
	}
	return s
}

func (s *seeker) run(ctx context.Context) error {
	var tries errgroup.Group
	results := make(chan joined)
	tick := time.NewTicker(s.g.interval)
	defer tick.Stop()
	for {
		s.look(ctx, &tries, results)
		s.checkReady()
		select {
		case <-ctx.Done():
			return tries.Wait()
		case r := <-results:
			s.note(r)
		case <-tick.C:
		}
	}
}

// look starts a try for everything that is missing and due.
func (s *seeker) look(ctx context.Context, tries *errgroup.Group, results chan<- joined) {
	for _, addr := range s.g.table.missing() {
		if key := addr.String(); s.targets[key] == nil {
			s.targets[key] = &target{addrs: []netip.AddrPort{addr}}
		}
	}
	now := s.g.now()
	for key, t := range s.targets {
		t.wanted = !s.present(t)
		if !t.wanted {
			s.reached(key, t)
			t.next = time.Time{}
			continue
		}
		if t.busy || now.Before(t.next) {
			continue
		}
		t.busy = true
		addrs := t.addrs
		tries.Go(func() error {
			r := joined{key: key, addrs: addrs}
			r.addrs, r.err = s.try(ctx, key, addrs, tries)
			select {
			case results <- r:
			case <-ctx.Done():
			}
			return nil
		})
	}
}

func (s *seeker) present(t *target) bool {
	for _, a := range t.addrs {
		if s.g.table.alive(a) {
			return true
		}
	}
	return false
}

// try resolves a seed's name, if it is one, and joins all its addresses at
// once. It gives the addresses, and nil as soon as one of them has answered;
// the others end by themselves under tries.
func (s *seeker) try(ctx context.Context, key string, addrs []netip.AddrPort, tries *errgroup.Group) ([]netip.AddrPort, error) {
	if _, err := netip.ParseAddrPort(key); err != nil {
		found, err := resolve(ctx, key)
		if err != nil {
			return addrs, err
		}
		addrs = found
	}
	ends := make(chan error, len(addrs))
	for _, a := range addrs {
		tries.Go(func() error {
			_, err := s.list.Join([]string{a.String()})
			ends <- err
			return nil
		})
	}
	var err error
	for range addrs {
		if err = <-ends; err == nil {
			break
		}
	}
	return addrs, err
}

func resolve(ctx context.Context, seed string) ([]netip.AddrPort, error) {
	host, service, err := net.SplitHostPort(seed)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	port, err := net.DefaultResolver.LookupPort(ctx, "udp", service)
	if err != nil {
		return nil, err
	}
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, err
	}
	out := make([]netip.AddrPort, len(ips))
	for i, ip := range ips {
		out[i] = netip.AddrPortFrom(ip.Unmap(), uint16(port))
	}
	return out, nil
}

// note takes in how a try ended. An outage is told once, and its end.
func (s *seeker) note(r joined) {
	t := s.targets[r.key]
	t.busy, t.tried, t.addrs = false, true, r.addrs
	now := s.g.now()
	if r.err == nil {
		s.reached(r.key, t)
		t.next = now.Add(metInterval)
		s.ready()
		return
	}
	if t.fails == 0 {
		s.g.log.Warn("gossip does not reach a node, trying on", "address", r.key, "error", r.err)
	}
	t.fails++
	wait := s.g.interval
	if t.fails >= quickTries {
		wait = slowInterval
	}
	t.next = now.Add(wait)
}

func (s *seeker) reached(key string, t *target) {
	if t.fails > 0 {
		s.g.log.Info("gossip reaches a node again", "address", key, "tries", t.fails)
	}
	t.tried, t.fails = true, 0
}

// checkReady drops what is no longer missing, and is ready when every seed
// has been tried.
func (s *seeker) checkReady() {
	all := true
	seeds := make(map[string]bool, len(s.g.seeds))
	for _, seed := range s.g.seeds {
		seeds[seed] = true
		all = all && s.targets[seed].tried
	}
	for key, t := range s.targets {
		if !seeds[key] && !t.wanted && !t.busy {
			delete(s.targets, key)
		}
	}
	if all {
		s.ready()
	}
}

func (s *seeker) ready() {
	if !s.isReady {
		s.isReady = true
		close(s.g.ready)
	}
}
