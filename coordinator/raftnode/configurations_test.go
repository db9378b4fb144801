package raftnode

import (
	"errors"
	"slices"
	"testing"

	"github.com/hashicorp/raft"
)

func entry(index uint64, names ...string) *raft.Log {
	l := &raft.Log{Index: index, Term: 1, Type: raft.LogCommand}
	if len(names) > 0 {
		var list []Server
		for _, name := range names {
			list = append(list, Server{Name: name, Address: name, Voter: true})
		}
		l.Type, l.Data = raft.LogConfiguration, raft.EncodeConfiguration(raftConfiguration(list))
	}
	return l
}

// TestConfigurationsAreToldInTime drives the stores as Raft does. Each step
// must have told of its change when it returns: Raft acts on it right after.
func TestConfigurationsAreToldInTime(t *testing.T) {
	m := &member{t: t, name: "a", dir: t.TempDir(), wires: &wires{owner: map[string]string{}}}
	m.open()
	t.Cleanup(func() { m.Close() })
	in := &instance{node: m.Node}
	log := &logStore{m.stores.log, in}
	snapshots := &snapshotStore{m.stores.snapshots, m.configurations}
	store := func(logs ...*raft.Log) func() error { return func() error { return log.StoreLogs(logs) } }
	remove := func(first, last uint64) func() error {
		return func() error { return log.DeleteRange(first, last) }
	}
	snapshot := func(index uint64, cfg *raft.Log, header []byte) func() error {
		return func() error {
			sink, err := snapshots.Create(1, index, 1, raft.DecodeConfiguration(cfg.Data), cfg.Index, peerCodec{})
			if err != nil {
				return err
			}
			if _, err := sink.Write(header); err != nil {
				return err
			}
			return errors.Join(sink.Close(), sink.Close())
		}
	}
	tests := []struct {
		name string
		do   func() error
		want string // newest configuration told
	}{
		{"first", store(entry(1, "a", "b")), "1<0:ab"},
		{"commands", store(entry(2), entry(3)), "1<0:ab"},
		{"one more", store(entry(4), entry(5, "a", "b", "c"), entry(6)), "5<1:abc"},
		{"rolled back", remove(4, 6), "1<0:ab"},
		{"another at the same index", store(entry(4), entry(5, "a", "b", "d")), "5<1:abd"},
		{"overwritten without a removal", store(entry(5, "a", "b", "e")), "5<1:abe"},
		{"behind it", store(entry(6), entry(7), entry(8, "a")), "8<5:a"},
		{"own snapshot", snapshot(6, entry(5, "a", "b", "e"), nil), "8<5:a"},
		{"log shortened", remove(1, 6), "8<5:a"},
		{"rolled back to the snapshot's", remove(7, 8), "5<1:abe"},
		{"received snapshot", snapshot(90, entry(80, "a", "x"), snapshotHeader{88, 80, 60}.marshal()), "80<60:ax"},
		{"received snapshot, header of another", snapshot(190, entry(170, "a", "y"), snapshotHeader{88, 80, 60}.marshal()), "170<169:ay"},
		{"whole log dropped", remove(0, 190), "170<169:ay"},
		{"next", store(entry(191, "a", "y", "z")), "191<170:ayz"},
	}
	for _, tt := range tests {
		if err := tt.do(); err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		told := m.seen.told()
		if got := told[len(told)-1]; got != tt.want || shape(m.Configuration()) != tt.want {
			t.Errorf("%s: told %s, Configuration %s, want %s", tt.name, got, shape(m.Configuration()), tt.want)
		}
	}
	told := m.seen.told()
	if repeated := len(slices.Compact(slices.Clone(told))); repeated != len(told) {
		t.Errorf("told the same twice in a row: %v", told)
	}
	// A restart finds the same.
	if err := m.stores.scan(m.configurations); err != nil {
		t.Fatal(err)
	}
	if got := shape(m.Configuration()); got != "191<170:ayz" {
		t.Errorf("found at the start: %s", got)
	}
}

func TestPipelineIsOff(t *testing.T) {
	cfg, err := Config{Name: "a", Dir: "x", Machine: &record{}, Advertise: "127.0.0.1:1"}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	trans := newTransport(cfg, newStreamLayer(cfg))
	defer trans.Close()
	if _, err := trans.AppendEntriesPipeline("b", "127.0.0.1:1"); !errors.Is(err, raft.ErrPipelineReplicationNotSupported) {
		t.Errorf("pipeline: %v", err)
	}
}

func FuzzSnapshotHeader(f *testing.F) {
	f.Add(snapshotHeader{1, 2, 3}.marshal())
	f.Add([]byte(snapshotMagic))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := parseSnapshotHeader(b)
		if err == nil && string(h.marshal()) != string(b[:snapshotHeaderSize]) {
			t.Errorf("%x parsed as %+v", b, h)
		}
	})
}
