package vipagent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	pb "holdfast/coordinator/api/holdfastpb"
	"holdfast/coordinator/lease"
	"holdfast/vipagent/vip"
)

const (
	testTTL = time.Second
	latency = time.Millisecond // of a datagram, each way together
)

var errTest = errors.New("planted")

// refusal is an error that the quorum has meant.
type refusal struct{}

func (refusal) Error() string { return "refused" }
func (refusal) Refused() bool { return true }

// world is a host and three coordinators in a synctest bubble: a kernel, a
// clock, the wire of renewals, and the calls that reached the quorum. It
// outlives agents, which can be killed and started again in it.
type world struct {
	t     *testing.T
	dir   string
	begin time.Time

	mu         sync.Mutex
	skew       time.Duration // added to the clock: the host was suspended
	slow       time.Duration // the agent stands still for so long before each look at the clock
	kernel     map[vip.Address]vip.Actual
	links      map[string]bool
	subnets    map[netip.Prefix]string
	events     []string                   // everything that was done, in order
	configs    map[string]uint64          // configuration index by coordinator
	silent     map[string]bool            // coordinators that do not answer
	mute       map[uint64]bool            // sessions that are not answered
	marked     map[uint64]map[string]bool // session -> coordinators with a mark
	secrets    map[uint64][32]byte        // open sessions
	renewals   map[string][]lease.Renewal // by coordinator
	fail       map[string]func() error    // by name of a kernel call, before it
	after      map[string]func()          // by name of a kernel call, after it
	block      map[string]chan struct{}   // by name of an RPC: wait for it
	fails      map[string]error           // by name of an RPC
	files      map[string]string          // session file when an RPC was made, by RPC
	firstAt    map[lease.Round]lease.Time // when the first datagram of a round left
	next       uint64                     // session id
	index      uint64                     // highest that a view had
	fence      *worldFence                // nil: the host has none
	wire       *worldWire                 // nil: the host has no VRRP
	interfaces int                        // how often they were asked for by subnet
	log        *logBuffer
}

type logBuffer struct {
	mu    sync.Mutex
	lines []string
	hold  chan struct{} // writers wait for it
}

func (l *logBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	hold := l.hold
	l.mu.Unlock()
	if hold != nil {
		<-hold
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, strings.TrimSpace(string(b)))
	return len(b), nil
}

func (l *logBuffer) has(text string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.ContainsFunc(l.lines, func(s string) bool { return strings.Contains(s, text) })
}

func (l *logBuffer) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for _, s := range l.lines {
		if strings.Contains(s, text) {
			n++
		}
	}
	return n
}

func newWorld(t *testing.T) *world {
	return &world{
		t: t, dir: t.TempDir(), begin: time.Now(),
		kernel: make(map[vip.Address]vip.Actual), links: map[string]bool{"eth0": true, "eth1": true},
		subnets: map[netip.Prefix]string{netip.MustParsePrefix("10.0.0.0/24"): "eth0"},
		configs: map[string]uint64{"a": 3, "b": 3, "c": 3}, silent: make(map[string]bool), mute: make(map[uint64]bool),
		marked: make(map[uint64]map[string]bool), secrets: make(map[uint64][32]byte), renewals: make(map[string][]lease.Renewal),
		fail: make(map[string]func() error), after: make(map[string]func()),
		block: make(map[string]chan struct{}), fails: make(map[string]error), files: make(map[string]string),
		firstAt: make(map[lease.Round]lease.Time), next: 100, log: &logBuffer{},
	}
}

// run runs a script in a bubble with a world.
func run(t *testing.T, script func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { script(newWorld(t)) })
}

// now is the host's CLOCK_BOOTTIME.
func (w *world) now() lease.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.nowLocked()
}

func (w *world) nowLocked() lease.Time {
	return lease.Time(time.Hour + time.Since(w.begin) + w.skew)
}

func (w *world) note(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.events = append(w.events, fmt.Sprintf(format, args...))
}

// take returns what was done since the last time.
func (w *world) take() []string {
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	e := w.events
	w.events = nil
	return e
}

// expect checks what was done since the last time, in order; lifetimes and
// refreshes are not looked at.
func (w *world) expect(want ...string) {
	w.t.Helper()
	got := slices.DeleteFunc(w.take(), func(s string) bool { return strings.HasPrefix(s, "refresh") })
	if !slices.Equal(got, want) {
		w.t.Errorf("done:\n  %s\nwant:\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}

// up returns the addresses that are up, as a list.
func (w *world) up() string {
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []string
	for a := range w.kernel {
		out = append(out, a.IP().String())
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

func (w *world) expectUp(want string) {
	w.t.Helper()
	if got := w.up(); got != want {
		w.t.Errorf("up: %q, want %q", got, want)
	}
}

func (w *world) set(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
}

// agent is one process.
type agent struct {
	*Agent
	w     *world
	views chan *pb.View
	stop  context.CancelFunc
	done  chan error
	mu    sync.Mutex
	dead  bool // was killed: nothing that it does has an effect
}

func (w *world) config() Config {
	return Config{
		Host: "h", TTL: testTTL, StateDir: w.dir, BootID: "boot-1", Refresh: time.Minute,
		Logger: slog.New(slog.NewTextHandler(w.log, nil)),
	}
}

// start starts an agent.
func (w *world) start(change ...func(*Config)) *agent {
	w.t.Helper()
	c := w.config()
	for _, f := range change {
		f(&c)
	}
	a := &agent{w: w, views: make(chan *pb.View, 64), done: make(chan error, 1)}
	e := Edges{Kernel: a, Links: a, Sessions: a, Grants: a, Views: a, Datagrams: a, Clock: a}
	if w.fence != nil {
		f := &fenceOf{agent: a, worldFence: w.fence}
		e.Shield = func() (Shield, error) {
			return Shield{Fence: f, Deadlines: f, Close: func() { w.note("fence closed") }, Report: w.fence.report}, w.fence.fails["open"]
		}
	}
	if w.wire != nil {
		e.Adverts = wireOf{a, w.wire}
	}
	p, err := Open(c, e)
	if err != nil {
		w.t.Fatal(err)
	}
	a.Agent = p
	ctx, stop := context.WithCancel(context.Background())
	a.stop = stop
	go func() { a.done <- p.Run(ctx) }()
	w.t.Cleanup(stop)
	return a
}

// ready starts an agent that has a session with a proven lease.
func (w *world) ready(change ...func(*Config)) *agent {
	w.t.Helper()
	a := w.start(change...)
	a.tellAll(1)
	time.Sleep(50 * time.Millisecond)
	synctest.Wait()
	if s := a.Status(); s.Deadline <= w.now() {
		w.t.Fatalf("no lease: %+v\n%s", s, strings.Join(w.log.lines, "\n"))
	}
	w.take()
	return a
}

// end stops an agent as SIGTERM does.
func (a *agent) end() error {
	a.stop()
	err := <-a.done
	synctest.Wait()
	return err
}

// kill ends an agent as SIGKILL does: at this moment, with nothing tidied up.
func (a *agent) kill() {
	path := filepath.Join(a.w.dir, sessionName)
	synctest.Wait()
	a.mu.Lock()
	a.dead = true
	a.mu.Unlock()
	file, err := os.ReadFile(path)
	a.stop()
	<-a.done
	if err == nil {
		if err := os.WriteFile(path, file, 0o600); err != nil {
			a.w.t.Fatal(err)
		}
	}
}

func (a *agent) isDead() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.dead
}

// held makes the message for a grant: "10.0.0.5/24@7" is an address with claim 7.
func held(set string, session, epoch uint64, addresses ...string) *pb.Held {
	h := &pb.Held{Set: &pb.VIPSet{Name: set}, Session: session, Epoch: epoch}
	for _, text := range addresses {
		prefix, claim, _ := strings.Cut(text, "@")
		prefix, iface, _ := strings.Cut(prefix, "%")
		out := &pb.Address{Prefix: prefix, Interface: iface}
		_, _ = fmt.Sscan(claim, &out.Claim)
		h.Set.Addresses = append(h.Set.Addresses, out)
	}
	return h
}

func recalled(h *pb.Held, cause string) *pb.Held {
	h.Recall = &pb.Recall{Cause: cause}
	return h
}

// tell lets a coordinator show a view. All sessions that the world has open
// are in it.
func (a *agent) tell(coordinator string, index uint64, hs ...*pb.Held) {
	a.show(&pb.View{Coordinator: coordinator, Index: index, Held: hs})
}

func (a *agent) show(v *pb.View) {
	w := a.w
	w.mu.Lock()
	w.index = max(w.index, v.Index)
	for id := range w.secrets {
		v.Sessions = append(v.Sessions, id)
	}
	slices.Sort(v.Sessions)
	v.Configuration = &pb.Configuration{Index: w.configs[v.Coordinator]}
	for _, name := range sortedKeys(w.configs) {
		v.Configuration.Members = append(v.Configuration.Members, &pb.Coordinator{Name: name, Voter: true})
	}
	v.CandidateOf = []string{"db", "web"}
	w.mu.Unlock()
	a.views <- v
	synctest.Wait()
}

func (a *agent) tellAll(index uint64, hs ...*pb.Held) {
	for _, name := range sortedKeys(a.w.configs) {
		a.tell(name, index, hs...)
	}
}

// kernel

func (a *agent) hook(name string) error {
	a.w.mu.Lock()
	f := a.w.fail[name]
	a.w.mu.Unlock()
	if f != nil {
		return f()
	}
	return nil
}

func (a *agent) hookAfter(name string) {
	a.w.mu.Lock()
	f := a.w.after[name]
	a.w.mu.Unlock()
	if f != nil {
		f()
	}
}

func (a *agent) Addresses() ([]vip.Actual, error) {
	if a.isDead() {
		return nil, nil
	}
	if err := a.hook("addresses"); err != nil {
		return nil, err
	}
	a.w.mu.Lock()
	defer a.w.mu.Unlock()
	var out []vip.Actual
	for _, x := range a.w.kernel {
		out = append(out, x)
	}
	return out, nil
}

func names(addresses []vip.Address) string {
	var out []string
	for _, x := range addresses {
		out = append(out, x.IP().String())
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

func (a *agent) change(name string, addresses []vip.Address, f func(vip.Address)) error {
	if a.isDead() {
		return nil
	}
	if err := a.hook(name); err != nil {
		return err
	}
	a.w.mu.Lock()
	for _, x := range addresses {
		f(x.Host())
	}
	a.w.mu.Unlock()
	a.w.note("%s %s", name, names(addresses))
	a.hookAfter(name)
	return nil
}

func (a *agent) Remove(addresses []vip.Address) error {
	return a.change("remove", addresses, func(x vip.Address) { delete(a.w.kernel, x) })
}

func (a *agent) Add(addresses []vip.Address, valid time.Duration) error {
	return a.change("add", addresses, func(x vip.Address) {
		a.w.kernel[x] = vip.Actual{Address: x, Ours: true, ValidLeft: valid}
	})
}

func (a *agent) Refresh(addresses []vip.Address, valid time.Duration) error {
	var missing error
	err := a.change("refresh", addresses, func(x vip.Address) {
		if _, ok := a.w.kernel[x]; !ok {
			missing = errTest // it brings nothing up
			return
		}
		a.w.kernel[x] = vip.Actual{Address: x, Ours: true, ValidLeft: valid}
	})
	return errors.Join(err, missing)
}

func (a *agent) Announce(addresses []vip.Address) error {
	return a.change("announce", addresses, func(vip.Address) {})
}

func (a *agent) Interfaces() ([]string, error) {
	a.w.mu.Lock()
	defer a.w.mu.Unlock()
	return sortedKeys(a.w.links), nil
}

func (a *agent) InterfacesFor(ps []netip.Prefix) ([]string, error) {
	if err := a.hook("interfaces"); err != nil {
		return nil, err
	}
	a.w.mu.Lock()
	defer a.w.mu.Unlock()
	a.w.interfaces++
	out := make([]string, len(ps))
	for i, p := range ps {
		for subnet, name := range a.w.subnets {
			if subnet.Contains(p.Addr()) && a.w.links[name] {
				out[i] = name
			}
		}
	}
	return out, nil
}

// clock

func (a *agent) Now() lease.Time {
	a.w.mu.Lock()
	defer a.w.mu.Unlock()
	a.w.skew += a.w.slow
	return a.w.nowLocked()
}

func (a *agent) SleepUntil(ctx context.Context, t lease.Time) error {
	timer := time.NewTimer(t.Sub(a.w.now()))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// datagrams

func (a *agent) Send(coordinator string, b []byte) error {
	w := a.w
	if a.isDead() {
		return nil
	}
	u, err := lease.ParseRenewal(b)
	if err != nil {
		w.t.Errorf("sent: %v", err)
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	secret, open := w.secrets[u.Session]
	if !open {
		return nil
	}
	r, err := u.Verify(&secret)
	if err != nil {
		w.t.Errorf("sent: %v", err)
		return nil
	}
	w.renewals[coordinator] = append(w.renewals[coordinator], r)
	if _, ok := w.firstAt[r.Round]; !ok {
		w.firstAt[r.Round] = w.nowLocked()
	}
	if w.silent[coordinator] || w.mute[u.Session] || r.Configuration != w.configs[coordinator] {
		return nil
	}
	answer, err := lease.Answer{
		Session: r.Session, Round: r.Round, Configuration: r.Configuration, Coordinator: coordinator,
		Fenced: w.marked[u.Session][coordinator],
	}.Marshal(&secret)
	if err != nil {
		w.t.Error(err)
	}
	time.AfterFunc(latency, func() {
		if !a.isDead() {
			a.Datagram(answer)
		}
	})
	return nil
}

// views

func (a *agent) Views() <-chan *pb.View { return a.views }
func (a *agent) Redial(name string)     { a.w.note("redial %s", name) }

// calls

func (a *agent) rpc(ctx context.Context, name, what string) error {
	w := a.w
	if a.isDead() {
		return errTest
	}
	w.note("%s", what)
	file, _ := os.ReadFile(filepath.Join(w.dir, sessionName))
	w.mu.Lock()
	w.files[name] = string(file)
	block, err := w.block[name], w.fails[name]
	w.mu.Unlock()
	if block != nil {
		select {
		case <-block:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return err
}

func (a *agent) Open(ctx context.Context, r *pb.OpenRequest) (*pb.OpenReply, error) {
	if err := a.rpc(ctx, "open", "open "+r.Host); err != nil {
		return nil, err
	}
	a.w.mu.Lock()
	defer a.w.mu.Unlock()
	a.w.next = max(a.w.next, a.w.index) + 1 // it is the index of an entry
	a.w.secrets[a.w.next] = [32]byte(r.Secret)
	return &pb.OpenReply{Session: a.w.next}, nil
}

func (a *agent) Rebind(ctx context.Context, r *pb.RebindRequest) (*pb.RebindReply, error) {
	return &pb.RebindReply{}, a.rpc(ctx, "rebind", fmt.Sprintf("rebind %d %d", r.Old, r.New))
}

func (a *agent) Close(ctx context.Context, r *pb.CloseRequest) (*pb.CloseReply, error) {
	return &pb.CloseReply{}, a.rpc(ctx, "close", fmt.Sprintf("close %d", r.Session))
}

func conditions(cs []*pb.Condition) string {
	var out string
	for _, c := range cs {
		out += fmt.Sprintf(" [%s %+d veto=%v %s]", c.Set, c.Weight, c.Veto, c.Reason)
	}
	return out
}

func (a *agent) Release(ctx context.Context, r *pb.ReleaseRequest) (*pb.ReleaseReply, error) {
	what := fmt.Sprintf("release %d:", r.Session)
	for _, x := range r.Releases {
		what += fmt.Sprintf(" %s/%d", x.Set, x.Epoch)
	}
	return &pb.ReleaseReply{}, a.rpc(ctx, "release", what+conditions(r.Conditions)+" because "+r.Cause)
}

func (a *agent) ConfirmRemoval(ctx context.Context, r *pb.ConfirmRemovalRequest) (*pb.ConfirmRemovalReply, error) {
	what := fmt.Sprintf("confirm %d:", r.Session)
	for _, x := range r.Removed {
		what += fmt.Sprintf(" %s@%d", x.Address, x.Claim)
	}
	return &pb.ConfirmRemovalReply{}, a.rpc(ctx, "confirm", what)
}

func (a *agent) ReportStall(ctx context.Context, r *pb.ReportStallRequest) (*pb.ReportStallReply, error) {
	return &pb.ReportStallReply{}, a.rpc(ctx, "stall", fmt.Sprintf("stall %d: %v, %v ago, %d more", r.Session,
		time.Duration(r.LastedMs)*time.Millisecond, time.Duration(r.EndedMsAgo)*time.Millisecond, r.More))
}

func (a *agent) ReportRouter(ctx context.Context, r *pb.ReportRouterRequest) (*pb.ReportRouterReply, error) {
	what := fmt.Sprintf("routers %d:", r.Session)
	for _, x := range r.Routers {
		what += strings.TrimRight(fmt.Sprintf(" %s %s %s", x.Set, x.State, x.Active), " ")
	}
	return &pb.ReportRouterReply{}, a.rpc(ctx, "routers", what)
}

func (a *agent) ReportCondition(ctx context.Context, r *pb.ReportConditionRequest) (*pb.ReportConditionReply, error) {
	return &pb.ReportConditionReply{}, a.rpc(ctx, "report", fmt.Sprintf("report %d:", r.Session)+conditions(r.Conditions))
}
