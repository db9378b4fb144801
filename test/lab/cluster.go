package lab

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/encoding/protojson"

	pb "holdfast/coordinator/api/holdfastpb"
)

// ClusterConfig says what runs where.
type ClusterConfig struct {
	Bin          string        // directory of coordinator, vipagent and coordctl
	TTL          time.Duration // of the agents' sessions; 0: the default of vipagent
	Coordinators []*Host       // nil: the first three hosts
	Agents       []*Host       // nil: all hosts
	Operator     *Host         // where coordctl runs; nil: the last client
	Log          string        // log level of the daemons; "": info
	Disks        bool          // the coordinators' disks can hang
	Agent        string        // another build of vipagent; "": that in Bin
	Brokers      BrokerConfig
}

// Cluster is a set of real daemons in a network. Its methods are safe for
// concurrent use.
type Cluster struct {
	Network *Network
	config  ClusterConfig
	key     string

	mu           sync.Mutex
	coordinators map[*Host]*Process
	agents       map[*Host]*Process
	extra        map[*Host]string // more lines for a host's vipagent.yaml
	disks        map[*Host]*Disk  // of the coordinators
	ahead        map[*Host]time.Duration
	brokers      map[*Host]broker
}

// NewCluster prepares a cluster. Nothing runs yet.
func (n *Network) NewCluster(config ClusterConfig) *Cluster {
	if config.Coordinators == nil {
		config.Coordinators = n.Hosts[:3]
	}
	if config.Agents == nil {
		config.Agents = n.Hosts
	}
	if config.Operator == nil {
		config.Operator = n.Clients[len(n.Clients)-1]
	}
	if config.Agent == "" {
		config.Agent = filepath.Join(config.Bin, "vipagent")
	}
	if config.Log == "" {
		config.Log = "info"
	}
	var key [32]byte
	_, _ = rand.Read(key[:]) // never fails
	return &Cluster{
		Network:      n,
		config:       config,
		key:          base64.StdEncoding.EncodeToString(key[:]),
		coordinators: make(map[*Host]*Process),
		agents:       make(map[*Host]*Process),
		extra:        make(map[*Host]string),
		disks:        make(map[*Host]*Disk),
		ahead:        make(map[*Host]time.Duration),
		brokers:      make(map[*Host]broker),
	}
}

// Config returns the cluster's configuration with defaults filled in.
func (c *Cluster) Config() ClusterConfig { return c.config }

// Start starts all daemons and waits until the cluster is ready.
func (c *Cluster) Start(ctx context.Context) error {
	for _, h := range c.config.Coordinators {
		if _, err := c.StartCoordinator(h); err != nil {
			return err
		}
	}
	for _, h := range c.config.Agents {
		if _, err := c.StartAgent(h); err != nil {
			return err
		}
	}
	for _, h := range c.config.Brokers.Hosts {
		if _, err := c.StartBroker(h); err != nil {
			return err
		}
	}
	return c.WaitReady(ctx)
}

// Seeds are the gossip addresses of the coordinators that the cluster was
// founded with.
func (c *Cluster) Seeds() []string {
	var list []string
	for _, h := range c.config.Coordinators {
		list = append(list, h.IPv4.Addr().String()+":7950")
	}
	return list
}

// Key is the gossip key in base64.
func (c *Cluster) Key() string { return c.key }

// seeds is Seeds in YAML.
func (c *Cluster) seeds() string { return "['" + strings.Join(c.Seeds(), "', '") + "']" }

// StartCoordinator starts the coordinator of a host. A host that the cluster
// was not founded with joins it.
func (c *Cluster) StartCoordinator(h *Host) (*Process, error) {
	text := fmt.Sprintf(`name: %s
data_dir: %s
bind: %s
seeds: %s
gossip:
  keys: [%q]
log: {level: %s}
tls: off
`, h.Name, filepath.Join(h.Disk, "coordinator"), h.IPv4.Addr(), c.seeds(), c.key, c.config.Log)
	command, err := c.daemon(h, "coordinator", text)
	if err != nil {
		return nil, err
	}
	var p *Process
	var d *Disk
	if c.config.Disks {
		p, d, err = h.StartOnDisk(command)
	} else {
		p, err = h.Start(command)
	}
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.coordinators[h], c.disks[h] = p, d
	return p, nil
}

// Disk returns what lies under the host's coordinator; nil when its disk cannot
// hang.
func (c *Cluster) Disk(h *Host) *Disk {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.disks[h]
}

// StartAgent starts the vipagent of a host.
func (c *Cluster) StartAgent(h *Host) (*Process, error) {
	text := fmt.Sprintf(`host: %s
bind: %s
seeds: %s
gossip:
  keys: [%q]
log: {level: %s}
tls: off
`, h.Name, h.IPv4.Addr(), c.seeds(), c.key, c.config.Log)
	if c.config.TTL != 0 {
		text += fmt.Sprintf("ttl: %s\n", c.config.TTL)
	}
	c.mu.Lock()
	text += c.extra[h]
	c.mu.Unlock()
	command, err := c.daemon(h, "vipagent", text)
	if err != nil {
		return nil, err
	}
	command.Path, command.Env = c.config.Agent, []string{FaultPointVariable + "=" + h.FaultPointFile()}
	c.mu.Lock()
	ahead := c.ahead[h]
	c.mu.Unlock()
	var p *Process
	if ahead == 0 {
		p, err = h.Start(command)
	} else {
		p, err = h.StartInTime(command, ahead)
	}
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.agents[h] = p
	return p, nil
}

// AgentAhead puts the host's agent into a time namespace whose boot clock is so
// much ahead, from its next start on; 0 ends it.
func (c *Cluster) AgentAhead(h *Host, ahead time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ahead[h] = ahead
}

// SecondAgent starts another vipagent with the configuration of the host's own,
// as somebody might by hand.
func (c *Cluster) SecondAgent(h *Host) (*Process, error) {
	return h.Start(Command{Name: "second-vipagent", Path: c.config.Agent, Args: []string{"--config", filepath.Join(h.Disk, "vipagent.yaml")}})
}

// FaultPointVariable names the file that tells an agent built with fault points
// where to stop itself. Other builds do not look.
const FaultPointVariable = "HOLDFAST_FAULTPOINT"

// FaultPointFile is that file of the host's agent.
func (h *Host) FaultPointFile() string { return filepath.Join(h.Disk, "faultpoint") }

// AgentLines adds lines to the host's vipagent.yaml, from its next start on.
func (c *Cluster) AgentLines(h *Host, yaml string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.extra[h] = yaml
}

// daemon writes a daemon's configuration and says how to start it.
func (c *Cluster) daemon(h *Host, program, config string) (Command, error) {
	file := filepath.Join(h.Disk, program+".yaml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		return Command{}, fmt.Errorf("write configuration: %w", err)
	}
	return Command{Name: program, Path: filepath.Join(c.config.Bin, program), Args: []string{"--config", file}}, nil
}

// Coordinator returns the host's latest coordinator process, or nil.
func (c *Cluster) Coordinator(h *Host) *Process {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.coordinators[h]
}

// Agent returns the host's latest agent process, or nil.
func (c *Cluster) Agent(h *Host) *Process {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.agents[h]
}

// Repair is Revive, and waits until the cluster is ready.
func (c *Cluster) Repair(ctx context.Context) error {
	if err := c.Revive(); err != nil {
		return err
	}
	return c.WaitReady(ctx)
}

// Revive brings back what a scenario broke: power, links, losses, the trunk,
// hanging disks, frozen processes, and daemons that do not run.
func (c *Cluster) Revive() error {
	if err := c.Network.Repair(); err != nil {
		return err
	}
	for _, h := range c.config.Coordinators {
		if d := c.Disk(h); d != nil {
			d.Free()
		}
		if err := revive(h, c.Coordinator(h), c.StartCoordinator); err != nil {
			return err
		}
	}
	for _, h := range c.config.Agents {
		if err := revive(h, c.Agent(h), c.StartAgent); err != nil {
			return err
		}
	}
	for _, h := range c.config.Brokers.Hosts {
		p, d := c.Broker(h)
		if d != nil {
			d.Free()
		}
		if err := revive(h, p, c.StartBroker); err != nil {
			return err
		}
	}
	return nil
}

func revive(h *Host, p *Process, start func(*Host) (*Process, error)) error {
	if p != nil && p.Running() {
		return p.Thaw()
	}
	_, err := start(h)
	return err
}

// Result is what a run of coordctl gave.
type Result struct {
	Stdout, Stderr string
	Code           int
}

// Servers is the value of coordctl's --server: every coordinator.
func (c *Cluster) Servers() string {
	var list []string
	for _, h := range c.config.Coordinators {
		list = append(list, h.IPv4.Addr().String()+":7952")
	}
	return strings.Join(list, ",")
}

// Ctl runs coordctl on the operator's host, against any coordinator.
func (c *Cluster) Ctl(ctx context.Context, args ...string) (Result, error) {
	return c.CtlFrom(ctx, c.config.Operator, append([]string{"--server", c.Servers()}, args...)...)
}

// CtlFrom runs coordctl on a host, with no argument added.
func (c *Cluster) CtlFrom(ctx context.Context, h *Host, args ...string) (Result, error) {
	out, talk, code, err := h.Run(ctx, Command{
		Path: filepath.Join(c.config.Bin, "coordctl"), Args: args, Env: []string{"NO_COLOR=1"},
	})
	return Result{Stdout: string(out), Stderr: string(talk), Code: code}, err
}

// MustCtl is Ctl for commands that have to succeed: another exit code than 0
// is an error with what coordctl said. Without a leader, as during an election,
// it tries again like an operator would.
func (c *Cluster) MustCtl(ctx context.Context, args ...string) (string, error) {
	for tries := 1; ; tries++ {
		r, err := c.Ctl(ctx, args...)
		if err != nil || r.Code == 0 {
			return r.Stdout, err
		}
		if r.Code != noQuorum || tries == leaderTries {
			return r.Stdout, fmt.Errorf("coordctl %s: exit code %d: %s", strings.Join(args, " "), r.Code, strings.TrimSpace(r.Stderr+r.Stdout))
		}
		select {
		case <-ctx.Done():
			return "", ctx.Err()
		case <-time.After(statusEvery):
		}
	}
}

const (
	noQuorum    = 4  // coordctl's exit code
	leaderTries = 20 // with statusEvery between them, several elections
)

// Status asks for the cluster's status.
func (c *Cluster) Status(ctx context.Context) (*pb.StatusReply, error) {
	r, err := c.Ctl(ctx, "status", "-o", "json", "--timeout", "1s")
	if err != nil {
		return nil, err
	}
	s := &pb.StatusReply{}
	if err := protojson.Unmarshal([]byte(r.Stdout), s); err != nil {
		return nil, fmt.Errorf("coordctl status: exit code %d: %s", r.Code, strings.TrimSpace(r.Stderr+r.Stdout))
	}
	return s, nil
}

// statusEvery is the pause between two runs of coordctl while waiting.
const statusEvery = 100 * time.Millisecond

// Await polls the status until check returns nil.
func (c *Cluster) Await(ctx context.Context, check func(*pb.StatusReply) error) error {
	return Poll(ctx, statusEvery, func() error {
		s, err := c.Status(ctx)
		if err != nil {
			return err
		}
		return check(s)
	})
}

// WaitReady waits until all coordinators are voters that have what the leader
// has and are past their quiet time, and all agents have a live session.
func (c *Cluster) WaitReady(ctx context.Context) error {
	err := c.Await(ctx, func(s *pb.StatusReply) error {
		voters := make(map[string]bool)
		for _, m := range s.Coordinators {
			voters[m.Name] = m.Voter && m.Reachable && !m.Quiet && m.TrailsLeaderBy < 50
		}
		agents := make(map[string]bool)
		for _, a := range s.Agents {
			agents[a.Host] = a.Session != 0 && a.Live
		}
		for _, h := range c.config.Coordinators {
			if !voters[h.Name] {
				return fmt.Errorf("coordinator %s is not ready: %s %v", h.Name, s.Verdict, s.Problems)
			}
		}
		for _, h := range c.config.Agents {
			if !agents[h.Name] {
				return fmt.Errorf("agent %s is not ready: %s %v", h.Name, s.Verdict, s.Problems)
			}
		}
		if !s.Quorum || s.Leader == "" {
			return fmt.Errorf("no leader: %s %v", s.Verdict, s.Problems)
		}
		return nil
	})
	if err != nil {
		return errors.Join(err, c.ended())
	}
	return nil
}

// ended names the daemons that do not run any more.
func (c *Cluster) ended() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var errs []error
	for _, daemons := range []map[*Host]*Process{c.coordinators, c.agents} {
		for h, p := range daemons {
			if !p.Running() {
				errs = append(errs, fmt.Errorf("%s on %s has ended, see %s", p.Name, h.Name, p.Log))
			}
		}
	}
	return errors.Join(errs...)
}

// Holder returns the host that the quorum granted the set to, "" for none.
func (c *Cluster) Holder(ctx context.Context, set string) (string, error) {
	s, err := c.Status(ctx)
	if err != nil {
		return "", err
	}
	for _, v := range s.Vips {
		if v.Set.Name == set {
			return v.Holder, nil
		}
	}
	return "", fmt.Errorf("no VIP set %q", set)
}

// WaitHolder waits until the host holds the set; "" waits for any host.
func (c *Cluster) WaitHolder(ctx context.Context, set, host string) error {
	return c.Await(ctx, func(s *pb.StatusReply) error {
		for _, v := range s.Vips {
			if v.Set.Name == set && v.Holder != "" && (host == "" || v.Holder == host) && v.Recall == nil {
				return nil
			}
		}
		return fmt.Errorf("set %q is not held by %q", set, host)
	})
}

// Leader returns the host whose coordinator leads, or an error if none does.
func (c *Cluster) Leader(ctx context.Context) (*Host, error) {
	s, err := c.Status(ctx)
	if err != nil {
		return nil, err
	}
	if h := c.Network.Host(s.Leader); h != nil {
		return h, nil
	}
	return nil, fmt.Errorf("no leader: %s %v", s.Verdict, s.Problems)
}

// Lead hands the lead to the coordinator of a host and waits until it leads.
func (c *Cluster) Lead(ctx context.Context, h *Host) error {
	return Poll(ctx, statusEvery, func() error {
		if leader, err := c.Leader(ctx); err != nil || leader == h {
			return err
		}
		if _, err := c.MustCtl(ctx, "leader", "transfer", "--to", h.Name); err != nil {
			return err
		}
		return errors.New("the lead was handed over just now")
	})
}

// Apply applies a file of VIP sets.
func (c *Cluster) Apply(ctx context.Context, yaml string) error {
	file := filepath.Join(c.config.Operator.Disk, "vips.yaml")
	if err := os.WriteFile(file, []byte(yaml), 0o600); err != nil {
		return fmt.Errorf("write VIP file: %w", err)
	}
	_, err := c.MustCtl(ctx, "vip", "apply", "-f", file)
	return err
}
