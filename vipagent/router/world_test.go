package router

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/vipagent/keepalived"
	"holdfast/vipagent/vrrp"
)

// world is a host without a kernel. It writes down what the router does to it.
type world struct {
	t       *testing.T
	begin   time.Time
	log     bytes.Buffer
	changed chan struct{}

	mu      sync.Mutex
	links   map[string]*Link
	journal []string
	fifo    strings.Builder
	sockets []*fakeSocket
	left    []keepalived.Address
	scripts map[string]error // what a script ends with, by its first word
	numbers map[string]int
	counts  map[string]int
	files   map[string]string
	mails   []string
	jump    time.Duration // what the clock is ahead
	broken  map[netip.Addr]error
	macs    MACs // nil: none can be made
}

func newWorld(t *testing.T) *world {
	w := &world{
		t: t, begin: time.Now(), changed: make(chan struct{}, 1), links: map[string]*Link{},
		scripts: map[string]error{}, numbers: map[string]int{}, counts: map[string]int{}, files: map[string]string{}, broken: map[netip.Addr]error{},
	}
	w.link("eth0", "10.0.0.1/24", "fe80::1/64")
	w.link("eth1", "10.1.0.1/24", "fe80::2/64")
	return w
}

func (w *world) link(name string, addresses ...string) {
	l := &Link{Name: name, Index: len(w.links) + 1, Up: true}
	for _, a := range addresses {
		l.Addresses = append(l.Addresses, netip.MustParsePrefix(a))
	}
	w.links[name] = l
}

// note writes a line into the journal, with the time since the beginning.
func (w *world) note(format string, args ...any) {
	w.journal = append(w.journal, fmt.Sprintf("%6.2f ", time.Since(w.begin).Seconds())+fmt.Sprintf(format, args...))
}

// since returns what has been written down since the last call.
func (w *world) since() string {
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	s := strings.Join(w.journal, "\n")
	w.journal = nil
	return s
}

// lines is like since, without the times.
func (w *world) lines() []string {
	var out []string
	for line := range strings.Lines(w.since() + "\n") {
		if line = strings.TrimSpace(line); len(line) > 0 {
			_, rest, _ := strings.Cut(line, " ")
			out = append(out, rest)
		}
	}
	return out
}

func (w *world) said() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.fifo.String()
	w.fifo.Reset()
	return s
}

// change does something to the host and tells the router.
func (w *world) change(f func()) {
	w.mu.Lock()
	f()
	w.mu.Unlock()
	w.tell()
	synctest.Wait()
}

func (w *world) tell() {
	select {
	case w.changed <- struct{}{}:
	default:
	}
}

func (w *world) Now() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return time.Since(w.begin) + w.jump
}

func (w *world) Links() ([]Link, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []Link
	for _, l := range w.links {
		c := *l
		c.Addresses = slices.Clone(l.Addresses)
		out = append(out, c)
	}
	return out, nil
}

func (w *world) Watch(ctx context.Context, changed func()) error {
	changed()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-w.changed:
			changed()
		}
	}
}

// fakeAddresses is apart from world: both have an Add.
type fakeAddresses struct{ *world }

func (w fakeAddresses) Add(list []keepalived.Address) error {
	defer w.tell()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, a := range list {
		if err := w.broken[a.Prefix.Addr()]; err != nil {
			return err
		}
	}
	for _, a := range list {
		w.note("add %s %s", a.Prefix, a.Interface)
		l := w.links[a.Interface]
		if l == nil {
			return errors.New("no such interface")
		}
		if !slices.Contains(l.Addresses, a.Prefix) {
			l.Addresses = append(l.Addresses, a.Prefix)
		}
	}
	return nil
}

func (w fakeAddresses) Remove(list []keepalived.Address) error {
	defer w.tell()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, a := range list {
		w.note("remove %s %s", a.Prefix, a.Interface)
		if l := w.links[a.Interface]; l != nil {
			l.Addresses = slices.DeleteFunc(l.Addresses, func(p netip.Prefix) bool { return p == a.Prefix })
		}
	}
	return nil
}

func (w fakeAddresses) Clear(list []keepalived.Address) error { return w.Remove(list) }

func (w fakeAddresses) Announce(list []keepalived.Address) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, a := range list {
		w.note("announce %s", a.Prefix.Addr())
	}
	return nil
}

func (w fakeAddresses) Left() ([]keepalived.Address, error) { return w.left, nil }

func (w fakeAddresses) Promote(iface string, on bool) (bool, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.note("promote %s %t", iface, on)
	return false, nil
}

func (w *world) AddRoute(r keepalived.Route) error    { return w.noted("add route", r.Words) }
func (w *world) RemoveRoute(r keepalived.Route) error { return w.noted("remove route", r.Words) }
func (w *world) AddRule(r keepalived.Rule) error      { return w.noted("add rule", r.Words) }
func (w *world) RemoveRule(r keepalived.Rule) error   { return w.noted("remove rule", r.Words) }

func (w *world) noted(what string, words []string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.note("%s %s", what, strings.Join(words, " "))
	return nil
}

type fakeSocket struct {
	w       *world
	at      Endpoint
	packets chan Packet
	closed  chan struct{}
}

func (w *world) Open(at Endpoint, _ int) (Socket, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := &fakeSocket{w: w, at: at, packets: make(chan Packet, 100), closed: make(chan struct{})}
	w.sockets = append(w.sockets, s)
	return s, nil
}

func (s *fakeSocket) Send(message []byte, d Departure) error {
	a, _, err := vrrp.Parse(message, d.Source, d.Destination)
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	if err != nil {
		s.w.t.Errorf("sent a message that cannot be read: %v", err)
	}
	s.w.note("send vrid %d priority %d to %s", a.VRID, a.Priority, d.Destination)
	return nil
}

func (s *fakeSocket) Receive(f func(Packet)) error {
	for {
		select {
		case <-s.closed:
			return nil
		case p := <-s.packets:
			f(p)
		}
	}
}

func (s *fakeSocket) Close() error {
	close(s.closed)
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	s.w.sockets = slices.DeleteFunc(s.w.sockets, func(x *fakeSocket) bool { return x == s })
	return nil
}

// hear lets the router receive an advertisement of a peer.
func (w *world) hear(iface, from string, a vrrp.Advertisement) {
	w.t.Helper()
	source := netip.MustParseAddr(from)
	b, err := a.Append(nil, map[bool]vrrp.Checksum{true: vrrp.Plain, false: vrrp.Pseudo}[a.Version == 2], source, vrrp.MulticastGroup(source.Is4()))
	if err != nil {
		w.t.Fatal(err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range w.sockets {
		if s.at.Interface == iface && s.at.IPv6 == source.Is6() {
			s.packets <- Packet{Source: source, Destination: vrrp.MulticastGroup(source.Is4()), TTL: 255, Message: b}
			return
		}
	}
	w.t.Fatalf("nobody listens on %s", iface)
}

func (w *world) Prepare(c keepalived.Command) error {
	if c.Args[0] == "missing" {
		return errors.New("not found")
	}
	return nil
}

func (w *world) Run(ctx context.Context, c keepalived.Command, extra ...string) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	w.mu.Lock()
	err, check := w.scripts[c.Args[0]]
	if !check {
		w.note("run %s", strings.Join(slices.Concat(c.Args, extra), " "))
	}
	w.mu.Unlock()
	if errors.Is(err, context.DeadlineExceeded) {
		<-ctx.Done()
	}
	return err
}

func (w *world) Number(path string) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.numbers[path], nil
}

func (w *world) Processes(p keepalived.TrackProcess) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.note("count %s", p.Process)
	return w.counts[p.Process], nil
}

func (w *world) Tell(_, line string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.fifo.WriteString(line)
	return nil
}

func (w *world) Write(path string, content []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.files[path] = string(content)
	return nil
}

func (w *world) Mail(_ context.Context, to keepalived.Email, subject, body string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mails = append(w.mails, strings.Join(to.To, ",")+": "+subject+"\n"+body)
	return nil
}

// start runs a router in the world until the test ends or stop is called.
func (w *world) start(c *keepalived.Config) (r *Router, stop func()) {
	w.t.Helper()
	r = New(Config{
		Keepalived: c, Logger: slog.New(slog.NewTextHandler(&w.log, nil)), Clock: w, Links: w, Addresses: fakeAddresses{w},
		Routes: w, Sockets: w, Scripts: w, Surroundings: w, MACs: w.macs,
	})
	ctx, cancel := context.WithCancel(w.t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	synctest.Wait()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				w.t.Errorf("Run: %v", err)
			}
		})
	}
	w.t.Cleanup(func() {
		if w.t.Failed() {
			w.t.Log(w.log.String())
		}
	})
	return r, stop
}

// one is an instance with the parser's defaults.
func one(name, iface string, vrid, priority uint8, addresses ...string) keepalived.Instance {
	in := keepalived.Instance{
		Name: name, Interface: iface, VRID: vrid, Version: 2, Priority: priority, Interval: time.Second, Preempt: true,
		GARP: keepalived.GARP{Delay: 5 * time.Second, Repeat: 2, LowerDelay: 5 * time.Second, LowerRepeat: 1, RefreshRepeat: 1},
	}
	for _, a := range addresses {
		in.Addresses = append(in.Addresses, keepalived.Address{Prefix: netip.MustParsePrefix(a)})
	}
	return in
}

func configOf(instances ...keepalived.Instance) *keepalived.Config {
	return &keepalived.Config{
		Global:    keepalived.Global{RouterID: "host", NotifyFIFOs: []keepalived.NotifyFIFO{{Path: "/run/fifo", VRRP: true}}},
		Instances: instances,
	}
}

// advert is what a peer with the same configuration sends.
func advert(in keepalived.Instance, priority uint8) vrrp.Advertisement {
	a := vrrp.Advertisement{Version: in.Version, VRID: in.VRID, Priority: priority, Interval: in.Interval}
	for _, x := range in.Addresses {
		a.Addresses = append(a.Addresses, x.Prefix.Addr())
	}
	return a
}

// mustEqual compares lines.
func mustEqual(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s:\n  %s\nwant:\n  %s", what, strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}
