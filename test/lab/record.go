package lab

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// ProbeEvery is the time between two probes of one address by one client.
const ProbeEvery = 2 * time.Millisecond

// Recorder watches a network from all sides: address tables, claims on the
// wire, and probes from every client to the watched addresses.
type Recorder struct {
	network  *Network
	probers  []*prober
	watchers []*addressWatcher
	sniffers []*sniffer
	fds      []int

	stop  atomic.Bool
	group errgroup.Group

	mu        sync.Mutex
	pressures []pressure
}

// StartRecorder begins to record; the clients probe the given addresses every
// so often (0: [ProbeEvery]). The caller must Close the recorder.
func (n *Network) StartRecorder(every time.Duration, addresses ...netip.Addr) (*Recorder, error) {
	if every == 0 {
		every = ProbeEvery
	}
	r := &Recorder{network: n}
	if err := r.open(every); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	r.Probe(addresses...)
	for _, w := range r.watchers {
		r.group.Go(func() error { return w.run(&r.stop) })
	}
	for _, s := range r.sniffers {
		r.group.Go(func() error { return s.run(&r.stop) })
	}
	for _, p := range r.probers {
		r.group.Go(func() error { return p.receive(p.fds[0], &r.stop) })
		r.group.Go(func() error { return p.receive(p.fds[1], &r.stop) })
		r.group.Go(func() error { return p.send(&r.stop) })
	}
	r.group.Go(r.sample)
	return r, nil
}

// open opens all sockets, and starts the hosts' echo.
func (r *Recorder) open(every time.Duration) error {
	names := make(map[string]string)
	for _, h := range r.network.all() {
		names[h.MAC.String()] = h.Name
	}
	for _, h := range r.network.Hosts {
		w, err := watchAddresses(h)
		if err != nil {
			return err
		}
		r.watchers, r.fds = append(r.watchers, w), append(r.fds, w.fd)
		if err := r.openEcho(h); err != nil {
			return err
		}
	}
	for _, c := range r.network.Clients {
		p, err := openProber(c, every)
		if err != nil {
			return err
		}
		r.probers, r.fds = append(r.probers, p), append(r.fds, p.fds[:]...)
	}
	for _, segment := range []Segment{SegmentA, SegmentB} {
		s, err := r.network.openSniffer(segment, names)
		if err != nil {
			return err
		}
		r.sniffers, r.fds = append(r.sniffers, s), append(r.fds, s.fd)
	}
	return nil
}

func (r *Recorder) openEcho(h *Host) error {
	for _, f := range []int{unix.AF_INET, unix.AF_INET6} {
		var fd int
		err := h.ns.do(func() (err error) {
			fd, err = openUDP(f, EchoPort)
			return err
		})
		if err != nil {
			return fmt.Errorf("open echo on %s: %w", h.Name, err)
		}
		r.fds = append(r.fds, fd)
		r.group.Go(func() error { return echo(fd, h.Name, &r.stop) })
	}
	return nil
}

// sample reads the machine's pressure ten times a second.
func (r *Recorder) sample() error {
	for next := Now(); !r.stop.Load(); next = next.Add(100 * time.Millisecond) {
		sleepUntil(next)
		p, ok := readPressure()
		if !ok {
			return nil // a kernel without PSI
		}
		r.mu.Lock()
		r.pressures = append(r.pressures, p)
		r.mu.Unlock()
	}
	return nil
}

// Probe replaces the probed addresses.
func (r *Recorder) Probe(addresses ...netip.Addr) {
	for _, p := range r.probers {
		p.setTargets(addresses)
	}
}

// Close ends the recording. It returns the first error that any of the
// recorder's threads met: after an error the record is not complete.
func (r *Recorder) Close() error {
	r.stop.Store(true)
	err := r.group.Wait()
	return errors.Join(err, closeAll(r.fds))
}

// Holds returns who had the address so far, in no order of hosts.
func (r *Recorder) Holds(address netip.Addr) []Hold {
	var holds []Hold
	for _, w := range r.watchers {
		for _, h := range w.snapshot() {
			if h.Address == address {
				holds = append(holds, h)
			}
		}
	}
	return holds
}

// AllHolds returns the holds of every address but the hosts' own.
func (r *Recorder) AllHolds() []Hold {
	own := make(map[netip.Addr]bool)
	for _, h := range r.network.all() {
		own[h.IPv4.Addr()], own[h.IPv6.Addr()] = true, true
	}
	var holds []Hold
	for _, w := range r.watchers {
		for _, h := range w.snapshot() {
			if !own[h.Address] && !h.Address.IsLinkLocalUnicast() && !h.Address.IsLoopback() {
				holds = append(holds, h)
			}
		}
	}
	return holds
}

// Holders returns the hosts that have the address now and are switched on.
func (r *Recorder) Holders(address netip.Addr) []string {
	now := Now()
	offs := r.offs()
	var hosts []string
	for _, h := range r.Holds(address) {
		if h.To == 0 && !offAt(offs, h.Host, now) {
			hosts = append(hosts, h.Host)
		}
	}
	return hosts
}

func (r *Recorder) offs() []Off {
	var offs []Off
	for _, h := range r.network.Hosts {
		offs = append(offs, h.powerCuts()...)
	}
	return offs
}

// Observe returns what was seen of the address between two times. Call it at
// least a few ticks after to, so that everything has been read.
func (r *Recorder) Observe(address netip.Addr, from, to Time) Observations {
	o := Observations{Address: address, From: from, To: to, Holds: r.Holds(address), Offs: r.offs()}
	for _, p := range r.probers {
		for _, a := range p.within(from, to) {
			if a.Address == address {
				o.Answers = append(o.Answers, a)
			}
		}
	}
	for _, c := range r.Claims(from, to) {
		if c.Address == address {
			o.Claims = append(o.Claims, c)
		}
	}
	for _, p := range r.Stretches(from, to) {
		if p.Address == address {
			o.Stretches = append(o.Stretches, p)
		}
	}
	return o
}

// Stretches returns the runs of packets that were heard between two times, cut
// to them, segment by segment.
func (r *Recorder) Stretches(from, to Time) []Stretch {
	var list []Stretch
	for _, s := range r.sniffers {
		s.mu.Lock()
		for _, p := range s.stretches {
			if p.To < from || p.From > to {
				continue
			}
			p.From, p.To = max(p.From, from), min(p.To, to)
			list = append(list, p)
		}
		s.mu.Unlock()
	}
	return list
}

// Forget drops what was over before a time, so that a recording may go on for
// hours.
func (r *Recorder) Forget(before Time) {
	for _, s := range r.sniffers {
		s.forget(before)
	}
	for _, p := range r.probers {
		p.forget(before)
	}
	for _, w := range r.watchers {
		w.forget(before)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pressures = slices.DeleteFunc(r.pressures, func(p pressure) bool { return p.at < before })
}

// Lost returns how many of a client's probes to the address, sent between two
// times, were not answered.
func (r *Recorder) Lost(client string, address netip.Addr, from, to Time) int {
	for _, p := range r.probers {
		if p.client == client {
			return p.lost(address, from, to)
		}
	}
	return 0
}

// Claims returns every claim heard between two times, segment by segment.
func (r *Recorder) Claims(from, to Time) []Claim {
	var claims []Claim
	for _, s := range r.sniffers {
		s.mu.Lock()
		for _, c := range s.claims {
			if from <= c.At && c.At <= to {
				claims = append(claims, c)
			}
		}
		s.mu.Unlock()
	}
	return claims
}

// Stall returns how much the machine held the lab up between two times: the
// worse of the clients' ticks, and the kernel's own count.
func (r *Recorder) Stall(from, to Time) Stall {
	var worst Stall
	for _, p := range r.probers {
		s := p.stall(from, to)
		worst.Max, worst.Sum = max(worst.Max, s.Max), max(worst.Sum, s.Sum)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	var first, last pressure
	for _, p := range r.pressures {
		if p.at <= from || first.at == 0 {
			first = p
		}
		if p.at <= to {
			last = p
		}
	}
	worst.CPU = max(0, last.total-first.total)
	return worst
}
