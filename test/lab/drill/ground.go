package drill

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"holdfast/test/lab"
	"holdfast/test/lab/scenario"
)

// Config says what is drilled, and where what it leaves behind goes.
type Config struct {
	Bin  string // directory of coordinator, vipagent and coordctl
	Dir  string // logs; "": a new temporary directory
	TTL  time.Duration
	Plan *Plan
	More string                           // lines for every vipagent.yaml
	Say  func(format string, args ...any) // comments for a person; may be nil
}

// Ground is a cluster in the lab that is there to be broken.
type Ground struct {
	Stage *scenario.Stage
	Dir   string // logs of the daemons
	Weak  string // why the fence is the weaker one; "": it is not

	network *lab.Network
	askers  []*lab.Asker
	say     func(format string, args ...any)
}

// startLimit bounds the start of the cluster.
const startLimit = time.Minute

// Start builds the network, starts the daemons and gives them the sets. The
// caller must be inside [lab.Enter], and must Close the ground.
func Start(ctx context.Context, c Config) (*Ground, error) {
	if c.Say == nil {
		c.Say = func(string, ...any) {}
	}
	layout := lab.Layout{Clients: lab.Standard().Clients, Dir: c.Dir}
	for i := range max(len(c.Plan.Hosts), fewestHosts) {
		segment := lab.SegmentB
		if i == 0 {
			segment = lab.SegmentA
		}
		layout.Hosts = append(layout.Hosts, segment)
	}
	network, err := lab.New(layout)
	if err != nil {
		return nil, err
	}
	g := &Ground{network: network, Dir: network.Dir, say: c.Say}
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	if err := g.start(ctx, c); err != nil {
		return nil, errors.Join(fmt.Errorf("start the cluster: %w (logs: %s)", err, g.Dir), g.Close())
	}
	return g, nil
}

func (g *Ground) start(ctx context.Context, c Config) error {
	cluster := g.network.NewCluster(lab.ClusterConfig{Bin: c.Bin, TTL: c.TTL, Disks: true})
	for _, h := range g.network.Hosts {
		cluster.AgentLines(h, scenario.AgentLines(h)+c.More)
	}
	if err := cluster.Start(ctx); err != nil {
		return err
	}
	if g.Weak = cluster.Weak(ctx); g.Weak != "" {
		c.Say("the weaker fence: %s; for a holder that is killed or frozen more is allowed", g.Weak)
	}
	if err := cluster.Apply(ctx, c.Plan.File); err != nil {
		return err
	}
	g.Stage = &scenario.Stage{
		Cluster: cluster, Set: c.Plan.Set, TTL: c.TTL, VIPs: c.Plan.VIPs, Also: c.Plan.Also, Say: c.Say, Weak: g.Weak != "",
	}
	for _, name := range c.Plan.candidates {
		g.Stage.Candidates = append(g.Stage.Candidates, g.network.Host(name))
	}
	all := append(append(c.Plan.VIPs[:0:0], c.Plan.VIPs...), c.Plan.Also...)
	var err error
	if g.Stage.Recorder, err = g.network.StartRecorder(0, all...); err != nil {
		return err
	}
	for _, client := range g.network.Clients {
		a, err := client.Ask(askEvery, all...)
		if err != nil {
			return err
		}
		g.askers = append(g.askers, a)
	}
	return g.Stage.Calm(ctx)
}

// askEvery is how often each client asks, by ARP and neighbour solicitation, who has
// the addresses: a second host that has one is not heard by clients who know the
// first.
const askEvery = 10 * time.Millisecond

// Close ends everything. The logs stay.
func (g *Ground) Close() error {
	var errs []error
	for _, a := range g.askers {
		errs = append(errs, a.Close())
	}
	if g.Stage != nil && g.Stage.Recorder != nil {
		errs = append(errs, g.Stage.Recorder.Close())
	}
	return errors.Join(append(errs, g.network.Close())...)
}

// Tidy removes the logs.
func (g *Ground) Tidy() error { return os.RemoveAll(g.Dir) }

// scenarioLimit bounds one scenario.
const scenarioLimit = 2 * time.Minute

// Run runs scenarios one after the other and tells each row as it comes. An
// error means that the cluster could not be brought back; a broken promise is in
// its row.
func (g *Ground) Run(ctx context.Context, scenarios []scenario.Scenario, tell func(scenario.Row)) error {
	for _, sc := range scenarios {
		limited, cancel := context.WithTimeout(ctx, scenarioLimit)
		row, err := g.Stage.Run(limited, sc)
		cancel()
		if row.Scenario != "" {
			tell(row)
		}
		if err != nil {
			return err
		}
		g.Stage.Recorder.Forget(lab.Now())
	}
	return nil
}
