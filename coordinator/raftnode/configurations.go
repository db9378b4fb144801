package raftnode

import (
	"io"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/raft"
)

// configurations follows the configuration entries of the log, committed or
// not. hashicorp/raft does not tell their indexes, and applies a new
// configuration as soon as StoreLogs has returned; so the log store and the
// snapshot store report here before they return.
type configurations struct {
	mu       sync.Mutex
	changed  func(Configuration) // called under mu, so in order
	snapshot uint64              // newest snapshot: what it covers cannot roll back
	list     []Configuration     // rising; the first one may come from the snapshot
	latest   atomic.Pointer[Configuration]
}

func newConfigurations(changed func(Configuration)) *configurations {
	if changed == nil {
		changed = func(Configuration) {}
	}
	c := &configurations{changed: changed}
	c.latest.Store(&Configuration{})
	return c
}

// reset forgets everything; the caller fills it again and then calls publish.
func (c *configurations) reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.snapshot, c.list = 0, nil
}

// scanned adds entries while a log is read at the start.
func (c *configurations) scanned(l *raft.Log) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.append(l)
}

func (c *configurations) publish() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.publishLocked()
}

// stored follows a write of rising, contiguous entries.
func (c *configurations) stored(logs []*raft.Log) {
	if len(logs) == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cut(logs[0].Index, ^uint64(0))
	for _, l := range logs {
		c.append(l)
	}
	c.publishLocked()
}

// deleted follows a removal of entries: of a suffix that another leader
// overrules, or of a prefix that a snapshot covers. Only the former counts.
func (c *configurations) deleted(first, last uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cut(first, last)
	c.publishLocked()
}

// snapshotted follows a snapshot of everything up to index, with the
// configuration cfg in it.
func (c *configurations) snapshotted(index uint64, cfg Configuration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.snapshot = index
	kept := []Configuration{cfg}
	for _, old := range c.list {
		switch {
		case old.Index == cfg.Index:
			kept[0].Previous = old.Previous
		case old.Index > index:
			kept = append(kept, old)
		}
	}
	c.list = kept
	c.publishLocked()
}

// removed tells whether the entry at index, the latest one, takes the named
// server out. It is false for a server that has not been in yet.
func (c *configurations) removed(index uint64, name string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := len(c.list)
	if n < 2 || c.list[n-1].Index != index {
		return false
	}
	return !c.list[n-1].has(name) && c.list[n-2].has(name)
}

func (c *configurations) cut(first, last uint64) {
	kept := c.list[:0:0]
	for _, cfg := range c.list {
		if cfg.Index <= c.snapshot || cfg.Index < first || cfg.Index > last {
			kept = append(kept, cfg)
		}
	}
	c.list = kept
}

func (c *configurations) append(l *raft.Log) {
	if l.Type != raft.LogConfiguration {
		return
	}
	cfg := Configuration{Index: l.Index, Servers: servers(raft.DecodeConfiguration(l.Data))}
	if n := len(c.list); n > 0 {
		cfg.Previous = c.list[n-1].Index
	}
	c.list = append(c.list, cfg)
}

func (c *configurations) publishLocked() {
	var cfg Configuration
	if n := len(c.list); n > 0 {
		cfg = c.list[n-1]
	}
	old := c.latest.Load()
	if old.Index == cfg.Index && old.Previous == cfg.Previous && slices.Equal(old.Servers, cfg.Servers) {
		return
	}
	c.latest.Store(&cfg)
	c.changed(cfg)
}

func (c Configuration) has(name string) bool {
	_, ok := c.server(name)
	return ok
}

func (c Configuration) server(name string) (Server, bool) {
	for _, s := range c.Servers {
		if s.Name == name {
			return s, true
		}
	}
	return Server{}, false
}

func servers(cfg raft.Configuration) []Server {
	out := make([]Server, len(cfg.Servers))
	for i, s := range cfg.Servers {
		out[i] = Server{Name: string(s.ID), Address: string(s.Address), Voter: s.Suffrage == raft.Voter}
	}
	return out
}

func raftConfiguration(list []Server) raft.Configuration {
	var cfg raft.Configuration
	for _, s := range list {
		suffrage := raft.Nonvoter
		if s.Voter {
			suffrage = raft.Voter
		}
		cfg.Servers = append(cfg.Servers, raft.Server{
			ID: raft.ServerID(s.Name), Address: raft.ServerAddress(s.Address), Suffrage: suffrage,
		})
	}
	return cfg
}

// snapshotConfiguration is the configuration that a snapshot brings. Its data
// tells the previous index; if that is of no use, the highest possible one is
// taken: whoever has restored the snapshot has applied that, too.
func snapshotConfiguration(index uint64, cfg raft.Configuration, data []byte) Configuration {
	out := Configuration{Index: index, Servers: servers(cfg)}
	if index > 0 {
		out.Previous = index - 1
	}
	if h, err := parseSnapshotHeader(data); err == nil && h.configuration == index {
		out.Previous = h.previous
	}
	return out
}

// snapshotStore tells configurations of each snapshot, taken or received,
// before Raft acts on it.
type snapshotStore struct {
	raft.SnapshotStore
	configurations *configurations
}

func (s *snapshotStore) Create(version raft.SnapshotVersion, index, term uint64, cfg raft.Configuration,
	cfgIndex uint64, trans raft.Transport) (raft.SnapshotSink, error) {
	sink, err := s.SnapshotStore.Create(version, index, term, cfg, cfgIndex, trans)
	if err != nil {
		return nil, err
	}
	return &snapshotSink{SnapshotSink: sink, done: func(head []byte) {
		s.configurations.snapshotted(index, snapshotConfiguration(cfgIndex, cfg, head))
	}}, nil
}

type snapshotSink struct {
	raft.SnapshotSink
	head   []byte
	closed bool
	done   func(head []byte)
}

func (s *snapshotSink) Write(p []byte) (int, error) {
	n, err := s.SnapshotSink.Write(p)
	if missing := snapshotHeaderSize - len(s.head); missing > 0 {
		s.head = append(s.head, p[:min(n, missing)]...)
	}
	return n, err
}

// Close may be called twice: by whoever wrote the data, and by Raft.
func (s *snapshotSink) Close() error {
	if err := s.SnapshotSink.Close(); err != nil || s.closed {
		return err
	}
	s.closed = true
	s.done(s.head)
	return nil
}

func (s *snapshotSink) Cancel() error {
	s.closed = true
	return s.SnapshotSink.Cancel()
}

// readHead reads the header of an open snapshot; what is missing is left out.
func readHead(r io.Reader) []byte {
	head := make([]byte, snapshotHeaderSize)
	n, _ := io.ReadFull(r, head)
	return head[:n]
}
