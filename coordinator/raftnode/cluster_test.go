package raftnode

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"
)

// patience is how long a test waits for what should take milliseconds.
const patience = 15 * time.Second

// eventually polls, because what it waits for is another machine's state.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(patience)
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("gave up waiting: %s", what)
		}
	}
}

func limit(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// record is a Machine that keeps what it was given, in order.
type record struct {
	mu      sync.Mutex
	entries []string // "index:data" or "index!" for a configuration
	refuse  string   // data that Apply cannot take

	restored  int      // how often
	persisted []uint64 // as it was told
}

func (r *record) Apply(index uint64, data []byte) (any, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.refuse != "" && string(data) == r.refuse {
		return nil, errors.New("cannot decode " + r.refuse)
	}
	r.entries = append(r.entries, fmt.Sprintf("%d:%s", index, data))
	return index, nil
}

func (r *record) Configured(index uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.entries = append(r.entries, fmt.Sprintf("%d!", index))
}

func (r *record) Snapshot() ([]byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var b []byte
	for _, e := range r.entries {
		b = binary.BigEndian.AppendUint32(b, uint32(len(e)))
		b = append(b, e...)
	}
	return b, nil
}

// covered is the index of the newest snapshot that it was told of, 0 = none.
func (r *record) covered() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.persisted) == 0 {
		return 0
	}
	return r.persisted[len(r.persisted)-1]
}

func (r *record) Persisted(index uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.persisted = append(r.persisted, index)
}

func (r *record) Restore(b []byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.entries = nil
	r.restored++
	for len(b) > 0 {
		n := binary.BigEndian.Uint32(b)
		r.entries = append(r.entries, string(b[4:4+n]))
		b = b[4+n:]
	}
	return nil
}

func (r *record) list() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.entries)
}

func (r *record) has(data string) bool {
	for _, e := range r.list() {
		if _, d, ok := bytes.Cut([]byte(e), []byte(":")); ok && string(d) == data {
			return true
		}
	}
	return false
}

// wires carries the connections of a cluster and can cut members off.
type wires struct {
	mu    sync.Mutex
	owner map[string]string // address -> member
	cut   map[string]bool
	conns map[net.Conn][2]string
}

var errCut = errors.New("cut off")

func (w *wires) dialer(from string) func(string, time.Duration) (net.Conn, error) {
	return func(address string, timeout time.Duration) (net.Conn, error) {
		c, err := net.DialTimeout("tcp", address, timeout)
		if err != nil {
			return nil, err
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		to := w.owner[address]
		if w.cut[from] || w.cut[to] {
			c.Close()
			return nil, errCut
		}
		w.conns[c] = [2]string{from, to}
		return c, nil
	}
}

func (w *wires) set(name string, cut bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut[name] = cut
	if !cut {
		return
	}
	for c, ends := range w.conns {
		if slices.Contains(ends[:], name) {
			c.Close()
			delete(w.conns, c)
		}
	}
}

// member is one node of a test cluster. It keeps its directory and address over restarts.
type member struct {
	t       testing.TB
	name    string
	dir     string
	address string
	change  func(*Config) // last touch to the configuration
	wires   *wires

	*Node
	machine *record
	seen    *configurationLog
	cancel  context.CancelFunc
	ended   chan error
}

// configurationLog keeps what OnConfiguration told.
type configurationLog struct {
	mu  sync.Mutex
	all []Configuration
}

func (l *configurationLog) add(c Configuration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, c)
}

// told is each configuration as "index<previous:names".
func (l *configurationLog) told() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []string
	for _, c := range l.all {
		out = append(out, shape(c))
	}
	return out
}

func shape(c Configuration) string {
	s := fmt.Sprintf("%d<%d:", c.Index, c.Previous)
	for _, srv := range c.Servers {
		name := srv.Name
		if !srv.Voter {
			name = "(" + name + ")"
		}
		s += name
	}
	return s
}

func (m *member) server() Server { return Server{Name: m.name, Address: m.address, Voter: true} }

func (m *member) config(l net.Listener) Config {
	level := slog.LevelError + 1
	if os.Getenv("RAFTNODE_LOG") != "" {
		level = slog.LevelDebug
	}
	cfg := Config{
		Name: m.name, Dir: m.dir, Listener: l, Advertise: m.address,
		Machine: m.machine, OnConfiguration: m.seen.add, dial: m.wires.dialer(m.name),
		Logger: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level})).With("node", m.name),
	}
	if m.change != nil {
		m.change(&cfg)
	}
	return cfg
}

// open opens the node with a fresh machine.
func (m *member) open() {
	m.t.Helper()
	addr := m.address
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		m.t.Fatal(err)
	}
	m.address = l.Addr().String()
	m.wires.mu.Lock()
	m.wires.owner[m.address] = m.name
	m.wires.mu.Unlock()
	m.machine, m.seen = &record{}, &configurationLog{}
	if m.Node, err = Open(m.config(l)); err != nil {
		m.t.Fatal(err)
	}
}

func (m *member) run() {
	ctx, cancel := context.WithCancel(context.Background())
	m.cancel, m.ended = cancel, make(chan error, 1)
	node, ended := m.Node, m.ended
	go func() { ended <- node.Run(ctx) }()
	m.t.Cleanup(func() { m.stop() })
}

// stop ends Run and returns its error; a second call returns nil.
func (m *member) stop() error {
	if m.cancel == nil {
		return nil
	}
	m.cancel()
	m.cancel = nil
	return m.wait()
}

func (m *member) wait() error {
	m.t.Helper()
	select {
	case err := <-m.ended:
		m.cancel = nil
		return err
	case <-time.After(patience):
		m.t.Fatalf("%s does not end", m.name)
		return nil
	}
}

func (m *member) restart() {
	m.t.Helper()
	m.open()
	m.run()
}

// calm gives a cluster timing that a busy machine does not upset, for tests
// that count on one leader.
func calm(cfg *Config) { cfg.Heartbeat = 600 * time.Millisecond }

func both(changes ...func(*Config)) func(*Config) {
	return func(cfg *Config) {
		for _, change := range changes {
			change(cfg)
		}
	}
}

type cluster struct {
	t       testing.TB
	wires   *wires
	members []*member
}

// newCluster bootstraps nodes a, b, c ... and runs them.
func newCluster(t testing.TB, size int, change func(*Config)) *cluster {
	t.Helper()
	c := &cluster{t: t, wires: &wires{owner: map[string]string{}, cut: map[string]bool{}, conns: map[net.Conn][2]string{}}}
	var servers []Server
	for i := range size {
		m := c.member(string(rune('a'+i)), change)
		servers = append(servers, m.server())
	}
	for _, m := range c.members {
		if err := m.Bootstrap(servers); err != nil {
			t.Fatal(err)
		}
		m.run()
	}
	return c
}

// member adds a node that is open and does not run.
func (c *cluster) member(name string, change func(*Config)) *member {
	m := &member{t: c.t, name: name, dir: filepath.Join(c.t.TempDir(), name), change: change, wires: c.wires}
	m.open()
	c.members = append(c.members, m)
	return m
}

// leader waits until one of the members leads and has applied all before it.
func (c *cluster) leader(except ...*member) *member {
	c.t.Helper()
	var found *member
	eventually(c.t, "a leader", func() bool {
		for _, m := range c.members {
			if slices.Contains(except, m) || m.State().Role != "leader" {
				continue
			}
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			err := m.Barrier(ctx)
			cancel()
			if err == nil {
				found = m
				return true
			}
		}
		return false
	})
	return found
}

func (c *cluster) others(m *member) []*member {
	var out []*member
	for _, o := range c.members {
		if o != m {
			out = append(out, o)
		}
	}
	return out
}

// propose commits data on whoever leads.
func (c *cluster) propose(data string, except ...*member) uint64 {
	c.t.Helper()
	for {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		result, err := c.leader(except...).Propose(ctx, []byte(data))
		cancel()
		if err == nil {
			return result.(uint64)
		}
		if !errors.Is(err, ErrNotLeader) && !errors.Is(err, ErrUncertain) {
			c.t.Fatal(err)
		}
	}
}

// applied waits until the given members have applied data.
func (c *cluster) applied(data string, members ...*member) {
	c.t.Helper()
	for _, m := range members {
		eventually(c.t, m.name+" applies "+data, func() bool { return m.machine.has(data) })
	}
}
