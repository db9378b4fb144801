package coordinator

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	pb "holdfast/coordinator/api/holdfastpb"
	"holdfast/coordinator/lease"
	"holdfast/fsm"
)

var errCut = errors.New("cut off")

// quorum is a set of coordinators in one process, on one shared log that the
// test's leader appends to, with calls and datagrams that can be cut. It runs
// in a synctest bubble, whose clock is everybody's boot clock.
type quorum struct {
	t     *testing.T
	ctx   context.Context
	begun time.Time

	mu        sync.Mutex
	names     []string
	nodes     map[string]*Coordinator
	logs      map[string]*sharedLog
	stores    map[string]*memStore
	entries   [][]byte // entry i has index i+1; nil is a no-op
	leader    string
	term      uint64
	cut       map[string]bool // "a>b": calls and datagrams from a to b are lost
	inbox     map[string][]lease.Answer
	secrets   map[uint64][32]byte
	wiped     map[string]bool // has no Raft state, though the others do
	behind    map[string]bool // does not get new entries
	proposing sync.Mutex
	mute      map[string]bool // is seen, but answers no call
}

func newQuorum(t *testing.T, names ...string) *quorum {
	ctx, cancel := context.WithCancel(t.Context())
	q := &quorum{
		t: t, ctx: ctx, begun: time.Now(), names: names, nodes: map[string]*Coordinator{}, logs: map[string]*sharedLog{},
		stores: map[string]*memStore{}, cut: map[string]bool{}, inbox: map[string][]lease.Answer{}, secrets: map[uint64][32]byte{},
		wiped: map[string]bool{}, behind: map[string]bool{}, mute: map[string]bool{},
		entries: [][]byte{nil}, // the first configuration
	}
	for _, name := range names {
		q.stores[name] = &memStore{marks: map[uint64]bool{}}
		q.start(name)
	}
	t.Cleanup(func() { cancel(); synctest.Wait() })
	return q
}

func (q *quorum) now() lease.Time { return lease.Time(time.Since(q.begun)) + 1 }

// start runs a coordinator afresh: what it kept in memory is gone.
func (q *quorum) start(name string) {
	l := &sharedLog{q: q, name: name, leading: make(chan bool, 1)}
	c := New(Config{
		Name: name, Params: lease.DefaultParams(), Boottime: q.now, Log: l, Datagrams: mail{q, name},
		Peers: calls{q, name}, Store: q.stores[name], Logger: slog.New(slog.DiscardHandler),
	})
	q.mu.Lock()
	q.nodes[name], q.logs[name] = c, l
	entries := q.entries
	q.mu.Unlock()
	c.SetConfiguration(l.Configuration())
	c.Machine().Configured(1)
	for i, e := range entries[1:] {
		l.apply(uint64(i+2), e)
	}
	go func() { _ = c.Run(q.ctx) }()
}

func (q *quorum) lead(name string) {
	q.mu.Lock()
	old := q.leader
	q.leader, q.term = name, q.term+1
	q.mu.Unlock()
	if old != "" {
		q.logs[old].leading <- false
	}
	q.logs[name].leading <- true
	synctest.Wait()
}

func (q *quorum) node() *Coordinator { return q.nodes[q.leader] }

func (q *quorum) isCut(from, to string) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.cut[from+">"+to]
}

func (q *quorum) setCut(from, to string, cut bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.cut[from+">"+to] = cut
}

// holder is an agent that does nothing but renew.
type holder struct {
	q      *quorum
	host   string
	id     uint64
	secret [32]byte
	fence  lease.FenceReport // told with each renewal
	*lease.Holder
}

func (q *quorum) open(host string) *holder {
	q.t.Helper()
	return q.openAs(host, nil)
}

// openAs opens a session of a broker, or with nil of an agent.
func (q *quorum) openAs(host string, broker *pb.Broker) *holder {
	q.t.Helper()
	h := &holder{q: q, host: host}
	copy(h.secret[:], host+" has a secret of thirty-two bytes")
	reply, err := q.node().Open(q.ctx, &pb.OpenRequest{Host: host, TtlMs: 1000, Secret: h.secret[:], Broker: broker})
	if err != nil {
		q.t.Fatal(err)
	}
	h.id = reply.Session
	q.mu.Lock()
	q.secrets[h.id] = h.secret
	q.mu.Unlock()
	h.Holder = lease.NewHolder(lease.Session{ID: h.id, TTL: time.Second, Secret: h.secret}, 7)
	h.SetConfiguration(lease.Configuration{Index: 1, Voters: q.names})
	synctest.Wait()
	return h
}

// renew sends one round to the coordinators that it reaches and takes their
// answers, and a second one at once if the first has brought a lease, as agents do.
func (h *holder) renew() {
	had := !h.Lapsed(h.q.now())
	h.send(had)
	if !had && !h.Lapsed(h.q.now()) {
		h.send(true)
	}
}

// send sends one round, or the last one again if it has brought nothing.
func (h *holder) send(proven bool) {
	round, again := h.Repeat()
	if !again {
		round = h.Begin(h.q.now())
	}
	for _, name := range h.q.names {
		if h.q.isCut(h.host, name) {
			continue
		}
		d := lease.Renewal{Session: h.id, Round: round, Configuration: 1, Proven: proven, Fence: h.fence}.Marshal(&h.secret)
		h.q.nodes[name].HandleDatagram("agent/"+h.host, d)
	}
	h.q.mu.Lock()
	defer h.q.mu.Unlock()
	for _, a := range h.q.inbox["agent/"+h.host] {
		h.Answer(a)
	}
	h.q.inbox["agent/"+h.host] = nil
}

// renewFor lets holders renew every 150 ms for a while.
func (q *quorum) renewFor(d time.Duration, holders ...*holder) {
	for end := time.Now().Add(d); time.Now().Before(end); {
		for _, h := range holders {
			h.renew()
		}
		q.pass(150 * time.Millisecond)
	}
}

// pass lets bubble time pass; it returns when all has come to rest again.
func (q *quorum) pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func (q *quorum) holderOf(set string) string {
	q.node().mu.RLock()
	defer q.node().mu.RUnlock()
	g, ok := q.node().state.Grant(set)
	if !ok {
		return ""
	}
	return g.Host
}

func (q *quorum) put(sets ...*pb.VIPSet) {
	q.t.Helper()
	if _, err := q.node().Apply(q.ctx, "test", &pb.ApplyRequest{Sets: sets}); err != nil {
		q.t.Fatal(err)
	}
	synctest.Wait()
}

func web() *pb.VIPSet {
	return &pb.VIPSet{
		Name: "web", Addresses: []*pb.Address{{Prefix: "10.0.0.50/24"}},
		Candidates: []*pb.Candidate{{Host: "h1", Priority: 150}, {Host: "h2", Priority: 100}},
	}
}

// sharedLog is one coordinator's view of the log: always up to date.
type sharedLog struct {
	q       *quorum
	name    string
	leading chan bool
}

func (l *sharedLog) apply(index uint64, data []byte) any {
	if data == nil {
		return nil
	}
	out, err := l.q.nodes[l.name].Machine().Apply(index, data)
	if err != nil {
		l.q.t.Error(err)
	}
	return out
}

func (l *sharedLog) Propose(_ context.Context, data []byte) (any, error) {
	l.q.proposing.Lock() // entries are applied in their order
	defer l.q.proposing.Unlock()
	l.q.mu.Lock()
	if l.q.leader != l.name {
		l.q.mu.Unlock()
		return nil, ErrNoLeader
	}
	l.q.entries = append(l.q.entries, data)
	index := uint64(len(l.q.entries))
	logs := l.q.logs
	l.q.mu.Unlock()
	var out any
	for _, name := range l.q.names {
		if l.q.behind[name] {
			continue
		}
		if r := logs[name].apply(index, data); name == l.name {
			out = r
		}
	}
	return out, nil
}

func (l *sharedLog) Barrier(context.Context) error { return nil }
func (l *sharedLog) Leading() <-chan bool          { return l.leading }

func (l *sharedLog) Info() LogInfo {
	l.q.mu.Lock()
	defer l.q.mu.Unlock()
	role := "follower"
	if l.q.leader == l.name {
		role = "leader"
	}
	n := uint64(len(l.q.entries))
	return LogInfo{Role: role, Leader: l.q.leader, Term: l.q.term, Applied: n, Last: n, HasState: l.q.leader != "" && !l.q.wiped[l.name]}
}

func (l *sharedLog) Configuration() Configuration {
	cfg := Configuration{Index: 1}
	for _, n := range l.q.names {
		cfg.Servers = append(cfg.Servers, Server{Name: n, RaftAddress: n + ":1", Voter: true})
	}
	return cfg
}

// mail keeps the answers that a coordinator sends.
type mail struct {
	q    *quorum
	name string
}

func (m mail) Send(to string, d []byte) error {
	u, err := lease.ParseAnswer(d)
	if err != nil {
		return err
	}
	m.q.mu.Lock()
	defer m.q.mu.Unlock()
	secret := m.q.secrets[u.Session]
	a, err := u.Verify(&secret)
	if err != nil {
		return err
	}
	if !m.q.cut[m.name+">"+to] {
		m.q.inbox[to] = append(m.q.inbox[to], a)
	}
	return nil
}

func (m mail) Coordinators() (out []Endpoint) {
	for _, n := range m.q.names {
		if !m.q.isCut(m.name, n) {
			out = append(out, Endpoint{Name: n, API: n + ":2", Raft: n + ":1", Alive: true})
		}
	}
	return out
}

// calls are direct, unless cut.
type calls struct {
	q    *quorum
	name string
}

func (p calls) to(ctx context.Context, name string) (*Coordinator, error) {
	if p.q.isCut(p.name, name) || p.q.mute[name] {
		<-ctx.Done()
		return nil, fmt.Errorf("%s to %s: %w", p.name, name, errCut)
	}
	return p.q.nodes[name], nil
}

func (p calls) Probe(ctx context.Context, name string, r *pb.ProbeRequest) (*pb.ProbeReply, error) {
	c, err := p.to(ctx, name)
	if err != nil {
		return nil, err
	}
	return c.Probe(ctx, r)
}

func (p calls) Fence(ctx context.Context, name string, r *pb.FenceRequest) (*pb.FenceReply, error) {
	c, err := p.to(ctx, name)
	if err != nil {
		return nil, err
	}
	return c.Fence(ctx, r)
}

func (p calls) Identity(ctx context.Context, name string, r *pb.IdentityRequest) (*pb.IdentityReply, error) {
	c, err := p.to(ctx, name)
	if err != nil {
		return nil, err
	}
	return c.Identity(ctx, r)
}

func (p calls) Join(ctx context.Context, name string, r *pb.JoinRequest) (*pb.JoinReply, error) {
	return nil, errCut
}

// memStore outlives a restart of its coordinator, as a disk does.
type memStore struct {
	mu      sync.Mutex
	marks   map[uint64]bool
	longest time.Duration
	fail    error
	raising func(time.Duration) // before a longer TTL is on disk
}

func (s *memStore) Mark(ids ...uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil {
		return s.fail
	}
	for _, id := range ids {
		s.marks[id] = true
	}
	return nil
}

func (s *memStore) Unmark(ids ...uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range ids {
		delete(s.marks, id)
	}
	return nil
}

func (s *memStore) Marks() (ids []uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id := range s.marks {
		ids = append(ids, id)
	}
	return ids
}

func (s *memStore) SetLongestTTL(d time.Duration) error {
	if s.raising != nil {
		s.raising(d)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.longest = d
	return nil
}

func (s *memStore) LongestTTL() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.longest
}

// changesOf returns the audit rows of one kind.
func (q *quorum) changesOf(kind string) (rows []fsm.Change) {
	q.node().mu.RLock()
	defer q.node().mu.RUnlock()
	for _, ch := range q.node().state.Changes(0) {
		if ch.Kind == kind {
			rows = append(rows, ch)
		}
	}
	return rows
}
