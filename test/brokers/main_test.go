package brokers

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"holdfast/test/lab"
)

const groupName = "orders"

func TestMain(m *testing.M) {
	code, err := runTests(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "brokers:", err)
		os.Exit(1)
	}
	os.Exit(code)
}

func runTests(m *testing.M) (code int, err error) {
	if err := lab.BuildPrograms("brokers",
		[]string{"-o", "BIN/", "holdfast/cmd/coordinator", "holdfast/cmd/brokerd", "holdfast/cmd/coordctl"},
		[]string{"-C", "../rmq", "-o", "BIN/load", "./load"},
	); err != nil {
		return 1, err
	}
	if err := lab.Enter(); err != nil {
		return 1, err
	}
	return m.Run(), nil
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// stage is a group of three brokers on three hosts with coordinators, and a client.
type stage struct {
	t       testing.TB
	cluster *lab.Cluster
	client  *lab.Host
}

// newStage starts one; lines go into each brokerd.yaml, put into "coordctl broker put".
// data is where the logs are, "" = in memory.
func newStage(ctx context.Context, t testing.TB, data, lines string, put ...string) *stage {
	t.Helper()
	layout := lab.Standard()
	layout.Dir = t.TempDir()
	n, err := lab.New(layout)
	check(t, err)
	s := &stage{t: t, client: n.Clients[1]}
	t.Cleanup(func() {
		if t.Failed() {
			text, err := n.LastWords(30)
			t.Log(errors.Join(err, errors.New(text)))
		}
		check(t, n.Close())
	})
	s.cluster = n.NewCluster(lab.ClusterConfig{
		Bin: os.Getenv(lab.BinVariable), TTL: time.Second, Agents: []*lab.Host{},
		Brokers: lab.BrokerConfig{Hosts: n.Hosts, Group: groupName, Lines: lines, Data: data},
	})
	check(t, s.cluster.Start(ctx))
	args := []string{"broker", "put", groupName}
	for _, h := range n.Hosts {
		args = append(args, "--member", h.Name)
	}
	check(t, lab.Poll(ctx, 100*time.Millisecond, func() error { return s.knowsBrokers(ctx) }))
	// A session whose opening was answered too late is nobody's, and ends after a TTL. A group
	// that is created before may take it for the broker's own, which then owes a return.
	check(t, lab.Wait(ctx, 3*time.Second))
	_, err = s.cluster.MustCtl(ctx, append(args, put...)...)
	check(t, err)
	s.rest(ctx)
	return s
}

// load is a run of the official client.
type load struct {
	process *lab.Process
	history string
	began   lab.Time
}

// start lets the client send for a time, and receive.
func (s *stage) start(length time.Duration, args ...string) *load {
	s.t.Helper()
	file := filepath.Join(s.client.Disk, "history.jsonl")
	p, err := s.client.Start(lab.Command{
		Name: "load", Path: filepath.Join(os.Getenv(lab.BinVariable), "load"),
		Args: append([]string{"-endpoint", s.cluster.ClientEndpoints(), "-for", length.String(), "-history", file, "-invisible", "10s", "-drain", "90s"}, args...),
		Env:  []string{"HOME=" + s.client.Disk},
	})
	check(s.t, err)
	return &load{process: p, history: file, began: lab.Now()}
}
