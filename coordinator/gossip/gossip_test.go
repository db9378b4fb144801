package gossip

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"
)

var testKey = bytes.Repeat([]byte{7}, 32)

// member is one node of a test's cluster.
type member struct {
	*Gossip
	changes chan struct{}
	got     chan datagram
	stop    func() // says farewell and waits for Run
	kill    func() // the network is gone at once, as by SIGKILL
}

type datagram struct {
	from string
	text string
}

// start runs a node on loopback until the test ends. change may edit its
// configuration.
func start(t *testing.T, role, host string, change func(*Config)) *member {
	t.Helper()
	return startTuned(t, role, host, change, func(c *memberlist.Config) {
		c.ProbeInterval, c.ProbeTimeout = 50*time.Millisecond, 30*time.Millisecond
		c.SuspicionMult, c.SuspicionMaxTimeoutMult = 2, 2
		c.GossipInterval = 10 * time.Millisecond
		c.GossipToTheDeadTime = time.Millisecond // so that only our own looking finds a dead node again
	})
}

func startTuned(t *testing.T, role, host string, change func(*Config), tune func(*memberlist.Config)) *member {
	t.Helper()
	m := &member{changes: make(chan struct{}, 1), got: make(chan datagram, 100)}
	c := Config{
		Role: role, Host: host, Bind: "127.0.0.1:0", Keys: [][]byte{testKey},
		Meta:     Meta{API: host + ":1", Raft: host + ":2", Store: "store-" + host, Version: "v1"},
		Logger:   slog.New(slog.NewTextHandler(t.Output(), nil)),
		OnChange: func() { m.changes <- struct{}{} },
		OnDatagram: func(from string, b []byte) {
			select {
			case m.got <- datagram{from, string(b)}:
			default:
			}
		},
	}
	if change != nil {
		change(&c)
	}
	g, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	g.interval = 50 * time.Millisecond
	g.tune = tune
	m.Gossip = g
	run(t, m)
	return m
}

func run(t *testing.T, m *member) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- m.Run(ctx) }()
	m.stop = sync.OnceFunc(func() {
		cancel()
		for {
			select {
			case err := <-ended:
				if err != nil {
					t.Errorf("%s: Run: %v", m.Name(), err)
				}
				return
			case <-m.changes: // OnChange must not hold Run up
			case <-time.After(5 * time.Second):
				t.Errorf("%s: Run did not return", m.Name())
				return
			}
		}
	})
	m.kill = func() { _ = m.transport.Shutdown(); m.stop() }
	t.Cleanup(m.stop)
	select {
	case <-m.Ready():
	case <-time.After(10 * time.Second):
		t.Fatalf("%s is not ready", m.Name())
	}
}

// until waits for a condition on the table; it looks again at every change.
func (m *member) until(t *testing.T, what string, cond func(map[string]Node) bool) {
	t.Helper()
	deadline := time.After(15 * time.Second)
	for {
		nodes := make(map[string]Node)
		for _, n := range m.Nodes() {
			nodes[n.Name] = n
		}
		if cond(nodes) {
			return
		}
		select {
		case <-m.changes:
		case <-deadline:
			t.Fatalf("%s never saw %s: %+v", m.Name(), what, m.Nodes())
		}
	}
}

func alive(names ...string) func(map[string]Node) bool {
	return func(nodes map[string]Node) bool {
		for _, n := range names {
			if !nodes[n].Alive {
				return false
			}
		}
		return true
	}
}

func dead(names ...string) func(map[string]Node) bool {
	return func(nodes map[string]Node) bool {
		for _, n := range names {
			if nodes[n].Alive {
				return false
			}
		}
		return true
	}
}

func seeds(s ...string) func(*Config) { return func(c *Config) { c.Seeds = s } }

func receive(t *testing.T, m *member) datagram {
	t.Helper()
	select {
	case d := <-m.got:
		return d
	case <-time.After(5 * time.Second):
		t.Fatalf("%s got no datagram", m.Name())
		return datagram{}
	}
}

func TestOneSeedIsEnoughToKnowEverybody(t *testing.T) {
	a := start(t, RoleCoordinator, "a", nil)
	seed := seeds(a.Advertised().String())
	b, c := start(t, RoleCoordinator, "b", seed), start(t, RoleCoordinator, "c", seed)
	x := start(t, RoleAgent, "x", seed)
	for _, m := range []*member{a, b, c, x} {
		m.until(t, "all four", alive("coordinator/a", "coordinator/b", "coordinator/c", "agent/x"))
	}
	for _, n := range x.Nodes() {
		if n.Name != "coordinator/c" {
			continue
		}
		n.Since = time.Time{}
		want := Node{
			Name: "coordinator/c", Role: RoleCoordinator, Host: "c", Gossip: c.Advertised().String(),
			API: "c:1", Raft: "c:2", Store: "store-c", Version: "v1", Alive: true,
		}
		if n != want {
			t.Errorf("agent/x sees %+v, want %+v", n, want)
		}
	}
}

func TestDeadSeedDelaysNobody(t *testing.T) {
	a := start(t, RoleCoordinator, "a", nil)
	// A host that takes connections and then is silent: the slowest way to be
	// dead.
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	began := time.Now()
	x := start(t, RoleAgent, "x", seeds(silent.Addr().String(), a.Advertised().String(), "no-such-host.invalid:7946"))
	if err := x.Send("coordinator/a", []byte("renew")); err != nil {
		t.Fatal(err)
	}
	receive(t, a)
	took := time.Since(began)
	t.Logf("first datagram arrived %v after the start", took)
	// The dead one's own try takes 2 s.
	if took > time.Second {
		t.Errorf("a dead seed held up the start: %v", took)
	}
}

func TestAllSeedsDeadIsReadyAllTheSame(t *testing.T) {
	start(t, RoleCoordinator, "a", seeds("127.0.0.1:1")) // fails inside when never ready
}

func TestNodeKeepsItsAddressesWhenDead(t *testing.T) {
	a := start(t, RoleCoordinator, "a", nil)
	b := start(t, RoleCoordinator, "b", seeds(a.Advertised().String()))
	a.until(t, "b", alive("coordinator/b"))
	b.kill()
	a.until(t, "b dead", dead("coordinator/b"))
	for _, n := range a.Nodes() {
		if n.Name == "coordinator/b" && (n.Gossip != b.Advertised().String() || n.API != "b:1" || n.Raft != "b:2") {
			t.Errorf("the dead node lost its addresses: %+v", n)
		}
	}
	if err := a.Send("coordinator/b", []byte("x")); err != nil {
		t.Errorf("send to a node that is thought dead: %v", err)
	}
	a.Forget("coordinator/b")
	if err := a.Send("coordinator/b", nil); !errors.Is(err, ErrUnknownNode) {
		t.Errorf("send to a forgotten node: %v", err)
	}
	a.Forget("coordinator/a")
	if len(a.Nodes()) != 1 {
		t.Errorf("forgot itself: %+v", a.Nodes())
	}
}

func TestDatagramRoundTrip(t *testing.T) {
	a := start(t, RoleCoordinator, "a", nil)
	x := start(t, RoleAgent, "x", seeds(a.Advertised().String()))
	big := strings.Repeat("r", MaxDatagram)
	if err := x.Send("coordinator/a", []byte(big)); err != nil {
		t.Fatal(err)
	}
	d := receive(t, a)
	if d.from != "agent/x" || d.text != big {
		t.Fatalf("got %d bytes from %q", len(d.text), d.from)
	}
	if err := a.Send(d.from, []byte("answer")); err != nil {
		t.Fatal(err)
	}
	if got := receive(t, x); got != (datagram{"coordinator/a", "answer"}) {
		t.Fatalf("got %+v", got)
	}
	if err := x.Send("coordinator/a", make([]byte, MaxDatagram+1)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("too large: %v", err)
	}
	if err := x.Send("coordinator/nobody", nil); !errors.Is(err, ErrUnknownNode) {
		t.Errorf("unknown: %v", err)
	}
	x.stop()
	if err := x.Send("coordinator/a", nil); !errors.Is(err, ErrNotRunning) {
		t.Errorf("after Run: %v", err)
	}
}

// A coordinator that has just restarted must answer agents that gossip has
// not told it of yet.
func TestAnswerReachesSenderThatGossipDoesNotKnow(t *testing.T) {
	a, x := start(t, RoleCoordinator, "a", nil), start(t, RoleAgent, "x", nil)
	x.table.hint("coordinator/a", a.Advertised(), time.Now)
	if err := x.Send("coordinator/a", []byte("renew")); err != nil {
		t.Fatal(err)
	}
	d := receive(t, a)
	if err := a.Send(d.from, []byte("answer")); err != nil {
		t.Fatal(err)
	}
	receive(t, x)
}

func TestStrangersKeyIsRefused(t *testing.T) {
	a := start(t, RoleCoordinator, "a", nil)
	x := start(t, RoleAgent, "x", func(c *Config) {
		c.Seeds, c.Keys = []string{a.Advertised().String()}, [][]byte{bytes.Repeat([]byte{8}, 32)}
	})
	x.table.hint("coordinator/a", a.Advertised(), time.Now)
	for range 20 {
		if err := x.Send("coordinator/a", []byte("let me in")); err != nil {
			t.Fatal(err)
		}
	}
	// A friend's datagram is behind the stranger's in the same socket.
	y := start(t, RoleAgent, "y", seeds(a.Advertised().String()))
	if err := y.Send("coordinator/a", []byte("hello")); err != nil {
		t.Fatal(err)
	}
	if d := receive(t, a); d.from != "agent/y" {
		t.Errorf("a datagram under another key came through: %+v", d)
	}
	for _, n := range append(a.Nodes(), x.Nodes()...) {
		if n.Alive && (n.Name == "agent/x") != (n.Gossip == x.Advertised().String()) {
			t.Errorf("unexpected row %+v", n)
		}
	}
	if _, known := a.table.find("agent/x"); known {
		t.Error("the stranger is in the table")
	}
}

func TestKeysRotateWithoutACut(t *testing.T) {
	newKey := bytes.Repeat([]byte{9}, 16)
	old := start(t, RoleCoordinator, "a", func(c *Config) { c.Keys = [][]byte{testKey, newKey} })
	x := start(t, RoleAgent, "x", func(c *Config) {
		c.Keys, c.Seeds = [][]byte{newKey, testKey}, []string{old.Advertised().String()}
	})
	if err := x.Send("coordinator/a", []byte("new")); err != nil {
		t.Fatal(err)
	}
	receive(t, old)
	if err := old.Send("agent/x", []byte("old")); err != nil {
		t.Fatal(err)
	}
	receive(t, x)
}

// Two coordinators die and come back without any seed: the third one, which
// has only its memory of them, must bring all together again.
func TestRejoinAfterOthersRestart(t *testing.T) {
	a := start(t, RoleCoordinator, "a", nil)
	b := start(t, RoleCoordinator, "b", seeds(a.Advertised().String()))
	c := start(t, RoleCoordinator, "c", seeds(a.Advertised().String()))
	names := []string{"coordinator/a", "coordinator/b", "coordinator/c"}
	c.until(t, "all", alive(names...))
	a.kill()
	b.kill()
	c.until(t, "both dead", dead("coordinator/a", "coordinator/b"))
	bind := func(m *member) func(*Config) {
		return func(cfg *Config) { cfg.Bind = m.Advertised().String() }
	}
	a2 := start(t, RoleCoordinator, "a", bind(a))
	b2 := start(t, RoleCoordinator, "b", bind(b))
	for _, m := range []*member{a2, b2, c} {
		m.until(t, "all again", alive(names...))
	}
}

func TestFarewellIsQuickAndTold(t *testing.T) {
	// With the timers of real life: failure detection would take seconds.
	real := func(*memberlist.Config) {}
	a := startTuned(t, RoleCoordinator, "a", nil, real)
	x := startTuned(t, RoleAgent, "x", seeds(a.Advertised().String()), real)
	a.until(t, "x", alive("agent/x"))
	began := time.Now()
	x.stop()
	if took := time.Since(began); took > time.Second {
		t.Errorf("leaving took %v", took)
	}
	a.until(t, "x gone", dead("agent/x"))
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("the farewell arrived after %v", took)
	}
}

func TestBurst(t *testing.T) {
	const n = 20000
	var count atomic.Int64
	last := make(chan struct{}, 1)
	a := start(t, RoleCoordinator, "a", func(c *Config) {
		c.OnDatagram = func(_ string, b []byte) {
			if string(b) == "last" {
				select {
				case last <- struct{}{}:
				default:
				}
				return
			}
			count.Add(1)
		}
	})
	x := start(t, RoleAgent, "x", seeds(a.Advertised().String()))
	payload := bytes.Repeat([]byte{1}, 60)
	began := time.Now()
	for range n {
		if err := x.Send("coordinator/a", payload); err != nil {
			t.Fatal(err)
		}
	}
	sent := time.Since(began)
	// Still alive and working after it: a later datagram comes through.
	for arrived := false; !arrived; {
		if err := x.Send("coordinator/a", []byte("last")); err != nil {
			t.Fatal(err)
		}
		select {
		case <-last:
			arrived = true
		case <-time.After(50 * time.Millisecond):
			if time.Since(began) > 10*time.Second {
				t.Fatal("nothing comes through after a burst")
			}
		}
	}
	got := count.Load()
	t.Logf("sent %d in %v (%.0f/s), arrived %d, lost %d", n, sent.Round(time.Millisecond), n/sent.Seconds(), got, n-got)
	if got > n {
		t.Errorf("%d datagrams arrived of %d", got, n)
	}
	if got < n/2 {
		t.Errorf("lost %d of %d on loopback", n-got, n)
	}
}

// Send must go on while memberlist's node lock is held.
func TestSendDoesNotWaitForMemberlist(t *testing.T) {
	a := start(t, RoleCoordinator, "a", nil)
	g, err := New(Config{Role: RoleAgent, Host: "x", Bind: "127.0.0.1:0", Keys: [][]byte{testKey}})
	if err != nil {
		t.Fatal(err)
	}
	held, let := make(chan struct{}), make(chan struct{})
	block := sync.OnceFunc(func() { close(held); <-let })
	g.tune = func(c *memberlist.Config) {
		c.Alive = blockingAlive(func(n *memberlist.Node) {
			if n.Name == "agent/late" {
				block()
			}
		})
	}
	x := &member{Gossip: g, changes: make(chan struct{}, 1)}
	run(t, x)
	x.table.hint("coordinator/a", a.Advertised(), time.Now)
	start(t, RoleAgent, "late", seeds(x.Advertised().String())) // x's delegate blocks on it
	<-held
	sent := make(chan error, 1)
	go func() { sent <- x.Send("coordinator/a", []byte("renew")) }()
	select {
	case err := <-sent:
		if err != nil {
			t.Error(err)
		}
		receive(t, a)
	case <-time.After(2 * time.Second):
		t.Error("Send waits for memberlist's lock")
	}
	close(let)
}

type blockingAlive func(*memberlist.Node)

func (f blockingAlive) NotifyAlive(n *memberlist.Node) error { f(n); return nil }

// rawDelegate lets a bare memberlist node tell whatever metadata it likes.
type rawDelegate struct{ meta []byte }

func (d rawDelegate) NodeMeta(int) []byte               { return d.meta }
func (d rawDelegate) NotifyMsg([]byte)                  {}
func (d rawDelegate) GetBroadcasts(int, int) [][]byte   { return nil }
func (d rawDelegate) LocalState(bool) []byte            { return []byte("what is this") }
func (d rawDelegate) MergeRemoteState(_ []byte, _ bool) {}

func TestNodeWithHostileNameOrMetadataIsKeptOut(t *testing.T) {
	var logged lockedBuffer
	a := start(t, RoleCoordinator, "a", func(c *Config) { c.Logger = slog.New(slog.NewTextHandler(&logged, nil)) })
	good, err := Meta{API: "h:1"}.encode()
	if err != nil {
		t.Fatal(err)
	}
	for i, hostile := range []struct {
		name string
		meta []byte
	}{
		{"agent/junk", []byte("\xff\xfe\x00junk")},
		{"agent/none", nil},
		{"agent/../../etc/passwd", good},
		{"agent/\x1b[31mred\n", good},
		{"", good},
		{"root/x", good},
		{"agent/" + strings.Repeat("x", 10000), good},
	} {
		c := memberlist.DefaultLANConfig()
		c.Name, c.BindAddr, c.BindPort, c.AdvertisePort = hostile.name, "127.0.0.1", 0, 0
		c.SecretKey, c.LogOutput, c.Delegate = testKey, io.Discard, rawDelegate{hostile.meta}
		m, err := memberlist.Create(c)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := m.Join([]string{a.Advertised().String()}); err != nil {
			t.Logf("%d: join: %v", i, err)
		}
		raw := a.list.Load().LocalNode()
		for _, b := range [][]byte{nil, {1}, {1, 255}, bytes.Repeat([]byte{1}, 1300), {2, 0}} {
			_ = m.SendBestEffort(raw, b)
		}
		_ = m.Shutdown()
	}
	// Still in service, and nobody of them is known.
	x := start(t, RoleAgent, "x", seeds(a.Advertised().String()))
	if err := x.Send("coordinator/a", []byte("hello")); err != nil {
		t.Fatal(err)
	}
	receive(t, a)
	if nodes := a.Nodes(); len(nodes) != 2 {
		t.Errorf("nodes: %+v", nodes)
	}
	if !strings.Contains(logged.String(), "level=WARN") || !strings.Contains(logged.String(), "ignoring alive message") {
		t.Errorf("no warning: %s", logged.String())
	}
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func TestConfigIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Config)
		field  string
		is     error
	}{
		"no key":             {func(c *Config) { c.Keys = nil }, "keys", ErrNoKey},
		"short key":          {func(c *Config) { c.Keys = [][]byte{testKey, []byte("short")} }, "keys", nil},
		"role":               {func(c *Config) { c.Role = "witness" }, "name", nil},
		"host":               {func(c *Config) { c.Host = "a/b" }, "name", nil},
		"bind":               {func(c *Config) { c.Bind = "localhost:1" }, "bind", nil},
		"wildcard advertise": {func(c *Config) { c.Bind = "0.0.0.0:0" }, "advertise", nil},
		"advertise":          {func(c *Config) { c.Advertise = "10.0.0.1" }, "advertise", nil},
		"seed":               {func(c *Config) { c.Seeds = []string{"10.0.0.1"} }, "seeds", nil},
		"seed port":          {func(c *Config) { c.Seeds = []string{"10.0.0.1:0"} }, "seeds", nil},
		"meta":               {func(c *Config) { c.Meta.API = "a\nb" }, "meta", nil},
		"long meta":          {func(c *Config) { c.Meta.API = strings.Repeat("a", 121) }, "meta", nil},
	} {
		t.Run(name, func(t *testing.T) {
			config := Config{Role: RoleAgent, Host: "x", Bind: "127.0.0.1:0", Keys: [][]byte{testKey}}
			c.change(&config)
			_, err := New(config)
			var ce *ConfigError
			if !errors.As(err, &ce) || ce.Field != c.field || c.is != nil && !errors.Is(err, c.is) {
				t.Errorf("got %v, want a ConfigError of %s", err, c.field)
			}
		})
	}
}

func TestBindConflictIsToldByNew(t *testing.T) {
	a := start(t, RoleCoordinator, "a", nil)
	if _, err := New(Config{Role: RoleAgent, Host: "x", Bind: a.Advertised().String(), Keys: [][]byte{testKey}}); err == nil {
		t.Error("bound a port twice")
	}
}

func TestTableIsBounded(t *testing.T) {
	table := newTable("coordinator/a")
	when := time.Unix(0, 0)
	now := func() time.Time { when = when.Add(time.Second); return when }
	addr := netip.MustParseAddrPort("127.0.0.1:1")
	table.hint("coordinator/b", addr, now)
	for i := range maxNodes + 10 {
		table.hint(fmt.Sprintf("agent/%d", i), addr, now)
	}
	if n := len(table.nodes()); n != maxNodes {
		t.Errorf("%d rows", n)
	}
	if _, ok := table.find("agent/0"); ok {
		t.Error("the longest dead agent is still there")
	}
	if _, ok := table.find("coordinator/b"); !ok {
		t.Error("a coordinator made room")
	}
}

func BenchmarkSend(b *testing.B) {
	g, err := New(Config{Role: RoleAgent, Host: "x", Bind: "127.0.0.1:0", Keys: [][]byte{testKey}})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); _ = g.Run(ctx) }()
	defer func() { cancel(); <-ended }()
	<-g.Ready()
	sink, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer sink.Close()
	g.table.hint("coordinator/a", netip.MustParseAddrPort(sink.LocalAddr().String()), time.Now)
	payload := make([]byte, 60)
	b.ReportAllocs()
	for b.Loop() {
		if err := g.Send("coordinator/a", payload); err != nil {
			b.Fatal(err)
		}
	}
}
