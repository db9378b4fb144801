package lab

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// EchoPort is the UDP port on which every host answers probes.
const EchoPort = 4242

// Answer is one answered probe.
type Answer struct {
	Client   string
	Address  netip.Addr // the address that was asked
	Host     string     // who answered
	Tick     uint32     // which of the client's ticks sent the probe
	Sent     Time       // when the client sent the probe
	Accepted Time       // when the answering host's kernel took the probe in
	Received Time       // when the client's kernel took the answer in
}

// A probe is magic, the number of its tick and its send time; an answer adds
// the time of acceptance and the host's name.
//
//	0        4        8                16               24
//	+--------+--------+----------------+----------------+- - - -
//	| magic  | tick   | send time      | accepted       | name
//	+--------+--------+----------------+----------------+- - - -
const (
	echoMagic  = 0x48464543
	probeSize  = 16
	answerSize = 24
)

func marshalProbe(b []byte, tick uint32, sent Time) {
	binary.BigEndian.PutUint32(b, echoMagic)
	binary.BigEndian.PutUint32(b[4:], tick)
	binary.BigEndian.PutUint64(b[8:], uint64(sent))
}

func isProbe(b []byte) bool {
	return len(b) == probeSize && binary.BigEndian.Uint32(b) == echoMagic
}

func marshalAnswer(b, probe []byte, accepted Time, host string) []byte {
	b = append(b[:0], probe...)
	b = binary.BigEndian.AppendUint64(b, uint64(accepted))
	return append(b, host...)
}

func parseAnswer(b []byte) (a Answer, ok bool) {
	if len(b) <= answerSize || binary.BigEndian.Uint32(b) != echoMagic {
		return Answer{}, false
	}
	return Answer{
		Tick:     binary.BigEndian.Uint32(b[4:]),
		Sent:     Time(binary.BigEndian.Uint64(b[8:])),
		Accepted: Time(binary.BigEndian.Uint64(b[16:])),
		Host:     string(b[answerSize:]),
	}, true
}

// echo answers probes on one host and one address family until stop is set.
// The answer leaves from the address that was asked; when the host has lost
// that address meanwhile the kernel refuses it, and nothing is sent.
func echo(fd int, host string, stop *atomic.Bool) error {
	preferThread()
	r := newReceiver(fd)
	out := make([]byte, 0, 64)
	for !stop.Load() {
		d, from, ok, err := r.next()
		if err != nil {
			return fmt.Errorf("echo on %s: %w", host, err)
		}
		if !ok || !isProbe(d.data) {
			continue
		}
		out = marshalAnswer(out, d.data, d.at, host)
		_ = unix.Sendmsg(fd, out, sourceControl(d.to), from, unix.MSG_DONTWAIT)
	}
	return nil
}

// prober asks addresses from one client and keeps the answers.
type prober struct {
	client string
	every  time.Duration
	fds    [2]int // IPv4, IPv6

	mu      sync.Mutex
	targets []netip.Addr
	names   table[string]     // answering hosts
	asked   table[netip.Addr] // addresses that have answered
	samples []sample          // by time of reading
	ticks   []Time            // when each tick sent its probes
	dropped uint32            // ticks before those, forgotten
	late    lateness
}

// sample is an Answer without pointers: a long run keeps a million of them and
// the garbage collector need not look at any.
type sample struct {
	sent, accepted, received Time
	tick                     uint32
	host, address            uint16 // positions in the tables
}

// table numbers values in the order in which they are first seen.
type table[T comparable] struct {
	values []T
	index  map[T]uint16
}

func (t *table[T]) number(v T) uint16 {
	if i, ok := t.index[v]; ok {
		return i
	}
	if t.index == nil {
		t.index = make(map[T]uint16)
	}
	i := uint16(len(t.values))
	t.values, t.index[v] = append(t.values, v), i
	return i
}

func openProber(h *Host, every time.Duration) (*prober, error) {
	p := &prober{client: h.Name, every: every, fds: [2]int{-1, -1}}
	err := h.ns.do(func() error {
		for i, f := range []int{unix.AF_INET, unix.AF_INET6} {
			fd, err := openUDP(f, 0)
			if err != nil {
				return err
			}
			p.fds[i] = fd
		}
		return nil
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open prober on %s: %w", h.Name, err), closeAll(p.fds[:]))
	}
	return p, nil
}

func closeAll(fds []int) error {
	var errs []error
	for _, fd := range fds {
		if fd >= 0 {
			errs = append(errs, unix.Close(fd))
		}
	}
	return errors.Join(errs...)
}

// send asks every target once per tick, at fixed points of time. A tick that
// comes late is recorded as the lab's own stall; ticks that were missed are
// not made up for.
func (p *prober) send(stop *atomic.Bool) error {
	runtime.LockOSThread()
	preferThread()
	probe := make([]byte, probeSize)
	for next := Now().Add(p.every); !stop.Load(); next = next.Add(p.every) {
		sleepUntil(next)
		now := Now()
		p.mu.Lock()
		p.late.record(next, now)
		targets := p.targets
		tick := p.dropped + uint32(len(p.ticks))
		p.ticks = append(p.ticks, now)
		p.mu.Unlock()
		for now.Sub(next) > p.every {
			next = next.Add(p.every)
		}
		for _, t := range targets {
			marshalProbe(probe, tick, Now())
			fd := p.fds[0]
			if t.Is6() {
				fd = p.fds[1]
			}
			// No route or no neighbour is no answer. It must not wait: while a
			// neighbour is not resolved, packets to it fill the socket's buffer.
			_ = unix.Sendto(fd, probe, unix.MSG_DONTWAIT, sockaddr(netip.AddrPortFrom(t, EchoPort)))
		}
	}
	return nil
}

func (p *prober) receive(fd int, stop *atomic.Bool) error {
	preferThread()
	r := newReceiver(fd)
	for !stop.Load() {
		d, _, ok, err := r.next()
		if err != nil {
			return fmt.Errorf("probe from %s: %w", p.client, err)
		}
		a, valid := parseAnswer(d.data)
		if !ok || !valid {
			continue
		}
		p.mu.Lock()
		p.samples = append(p.samples, sample{
			sent: a.Sent, accepted: a.Accepted, received: d.at, tick: a.Tick,
			host: p.names.number(a.Host), address: p.asked.number(d.from.Addr()),
		})
		p.mu.Unlock()
	}
	return nil
}

// settle is how far the order of reading may differ from the order of arrival.
const settle = time.Second

// within returns the answers that arrived between two times, in the order of
// their arrival.
func (p *prober) within(from, to Time) []Answer {
	p.mu.Lock()
	defer p.mu.Unlock()
	first := len(p.samples)
	for first > 0 && p.samples[first-1].received >= from.Add(-settle) {
		first--
	}
	var answers []Answer
	for _, s := range p.samples[first:] {
		if s.received < from || s.received > to {
			continue
		}
		answers = append(answers, Answer{
			Client: p.client, Address: p.asked.values[s.address], Host: p.names.values[s.host],
			Tick: s.tick, Sent: s.sent, Accepted: s.accepted, Received: s.received,
		})
	}
	slices.SortStableFunc(answers, func(a, b Answer) int { return cmp.Compare(a.Received, b.Received) })
	return answers
}

// lost returns how many probes of the address, sent between two times, have not
// been answered.
func (p *prober) lost(address netip.Addr, from, to Time) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	first, _ := slices.BinarySearch(p.ticks, from)
	end, _ := slices.BinarySearch(p.ticks, to)
	answered := make([]bool, end-first)
	for i := len(p.samples) - 1; i >= 0 && p.samples[i].received >= from.Add(-settle); i-- {
		s := p.samples[i]
		if tick := int(s.tick-p.dropped) - first; tick >= 0 && tick < len(answered) && p.asked.values[s.address] == address {
			answered[tick] = true
		}
	}
	lost := 0
	for _, ok := range answered {
		if !ok {
			lost++
		}
	}
	return lost
}

// forget drops what was over before a time.
func (p *prober) forget(before Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	ticks, _ := slices.BinarySearch(p.ticks, before)
	p.ticks, p.dropped = slices.Clone(p.ticks[ticks:]), p.dropped+uint32(ticks)
	p.samples = slices.DeleteFunc(p.samples, func(s sample) bool { return s.received < before })
	p.late.delays = slices.DeleteFunc(p.late.delays, func(d delay) bool { return d.at < before })
}

// stall returns how late the prober's own ticks were between two times.
func (p *prober) stall(from, to Time) Stall {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.late.within(from, to)
}

func (p *prober) setTargets(addresses []netip.Addr) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.targets = slices.Clone(addresses)
}
