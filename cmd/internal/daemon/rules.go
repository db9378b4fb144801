package daemon

import (
	"fmt"
	"io"
	"math"
	"net"
	"net/netip"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"holdfast/vipagent/health"
)

// CoordinatorFile is coordinator.yaml.
func CoordinatorFile() File[Coordinator] {
	return File[Coordinator]{
		program:  "coordinator",
		path:     "/etc/holdfast/coordinator.yaml",
		defaults: defaultCoordinator,
		check:    checkCoordinator,
	}
}

// AgentFile is vipagent.yaml.
func AgentFile() File[Agent] {
	return File[Agent]{
		program:  "vipagent",
		path:     "/etc/holdfast/vipagent.yaml",
		defaults: defaultAgent,
		check:    checkAgent,
		guarded:  func(cfg Agent) bool { return cfg.Guardian },
	}
}

// ParseCoordinator reads a coordinator.yaml; see [File.Parse].
func ParseCoordinator(name string, r io.Reader) (Coordinator, []Warning, error) {
	return CoordinatorFile().Parse(name, r)
}

// ParseAgent reads a vipagent.yaml; see [File.Parse].
func ParseAgent(name string, r io.Reader) (Agent, []Warning, error) {
	return AgentFile().Parse(name, r)
}

// Limits of the timing settings.
const (
	minTTL = 200 * time.Millisecond
	maxTTL = 10 * time.Second
	// minRaft is hashicorp/raft's own lower limit of its timeouts.
	minRaft = 5 * time.Millisecond
	maxRaft = 10 * time.Second
	minRho  = 0.0001
	maxRho  = 0.1
	// slewRho is the rate at which time daemons may slew a clock (500 ppm).
	slewRho = 0.0005
)

func checkCoordinator(cfg *Coordinator, c *checker) {
	c.hostName("name", cfg.Name, "give each coordinator its own, e.g. name: a")
	c.directory("data_dir", cfg.DataDir)
	c.reach(cfg.Bind, &cfg.Advertise)
	c.seeds(cfg.Seeds, cfg.Gossip.Port)
	switch n := cfg.BootstrapExpect; {
	case n < 1 || n > 9:
		c.fail("bootstrap_expect", "bootstrap_expect is %d, must be 1 to 9", n)
	case n == 1:
		c.warn("bootstrap_expect", "a cluster of one coordinator survives no failure; use 3")
	case n%2 == 0:
		c.warn("bootstrap_expect", "%d coordinators survive no more failures than %d", n, n-1)
	}
	c.gossip(cfg.Gossip)
	c.port("raft.port", cfg.Raft.Port)
	c.port("api.port", cfg.API.Port)
	c.distinct(map[string]int{"gossip.port": cfg.Gossip.Port, "raft.port": cfg.Raft.Port, "api.port": cfg.API.Port},
		"gossip.port", "raft.port", "api.port")
	checkRaft(cfg.Raft, c)
	checkLease(cfg.Lease, c)
	c.log(cfg.Log)
	c.tls(cfg.TLS)
}

func checkRaft(r Raft, c *checker) {
	c.between("raft.heartbeat", r.Heartbeat, minRaft, maxRaft)
	c.between("raft.election", r.Election, minRaft, maxRaft)
	c.between("raft.leader_lease", r.LeaderLease, minRaft, maxRaft)
	c.between("raft.store_timeout", r.StoreTimeout, 10*time.Millisecond, time.Minute)
	if r.LeaderLease > r.Heartbeat && !c.bad("raft.leader_lease", "raft.heartbeat") {
		c.fail(c.whichever("raft.leader_lease", "raft.heartbeat"),
			"raft.leader_lease must be at most raft.heartbeat, or a cut-off leader still leads when its successor is elected: %s > %s",
			r.LeaderLease, r.Heartbeat)
	}
	if r.Heartbeat > r.Election && !c.bad("raft.heartbeat", "raft.election") {
		c.fail(c.whichever("raft.election", "raft.heartbeat"),
			"raft.election must be at least raft.heartbeat: %s < %s", r.Election, r.Heartbeat)
	}
}

func checkLease(l Lease, c *checker) {
	if l.Rho < minRho || l.Rho > maxRho {
		c.fail("lease.rho", "lease.rho is %g, must be %g to %g (0.001 is 0.1 %%)", l.Rho, minRho, maxRho)
	} else if l.Rho < slewRho {
		c.warn("lease.rho", "lease.rho is %g, but time daemons may slew a clock by %g", l.Rho, slewRho)
	}
	c.between("lease.margin", l.Margin, time.Millisecond, time.Second)
}

func checkAgent(cfg *Agent, c *checker) {
	c.hostName("host", cfg.Host, "the name by which VIP sets list this host as a candidate")
	c.reach(cfg.Bind, &cfg.Advertise)
	if len(cfg.Seeds) == 0 {
		c.failHint("seeds", "list the gossip address of at least one coordinator, e.g. seeds: [192.0.2.11:7950]", "seeds is missing")
	}
	c.seeds(cfg.Seeds, defaultCoordinator().Gossip.Port)
	c.gossip(cfg.Gossip)
	checkTTL(cfg.TTL, &cfg.Renew, c)
	c.directory("state_dir", cfg.StateDir)
	c.fence(cfg.Fence)
	c.directory("bpf_dir", cfg.BPFDir)
	c.between("announce.repeat_after", cfg.Announce.RepeatAfter, 100*time.Millisecond, time.Minute)
	if cfg.Announce.Refresh != 0 {
		c.between("announce.refresh", cfg.Announce.Refresh, time.Second, time.Hour)
	}
	for i, name := range cfg.Interfaces {
		if name == "" || len(name) > 15 || strings.ContainsAny(name, "/ \t\n") || name == "." || name == ".." {
			c.fail(fmt.Sprintf("interfaces[%d]", i), "%q cannot be the name of an interface (1 to 15 characters, no blank, no slash)", name)
		}
	}
	checkChecks(cfg.Checks, c)
	c.log(cfg.Log)
	c.tls(cfg.TLS)
}

// checkChecks leaves out checks that could not be read as they stand: what they
// lack is a consequence.
func checkChecks(checks []health.Check, c *checker) {
	broken := make([]bool, len(checks)+1)
	for i := range checks {
		broken[i] = c.bad(fmt.Sprintf("checks[%d]", i))
	}
	for _, p := range health.Validate(checks) {
		if !broken[min(p.Check, len(checks))] {
			c.failHint(p.Path(), p.Hint, "%s", p.Message)
		}
	}
	for i := range checks {
		checks[i] = checks[i].WithDefaults()
	}
}

func checkTTL(ttl time.Duration, renew *time.Duration, c *checker) {
	c.between("ttl", ttl, minTTL, maxTTL)
	if !c.given("renew") {
		*renew = ttl / 6
		return
	}
	if limit := ttl / 3; *renew > limit && !c.bad("renew", "ttl") {
		c.failHint(c.whichever("renew", "ttl"), fmt.Sprintf("use at most %s", limit),
			"renew must be at most ttl/3, or one lost renewal ends the lease: %s > %s/3 = %s", *renew, ttl, limit)
	}
	if !c.bad("renew") {
		c.between("renew", *renew, 10*time.Millisecond, maxTTL)
	}
}

// between reports a duration outside of its limits.
func (c *checker) between(path string, d, low, high time.Duration) {
	if d < low || d > high {
		c.fail(path, "%s is %s, must be %s to %s", path, d, low, high)
	}
}

// whichever returns the first of the paths that the file or a flag has, so that
// a problem of several keys is shown where somebody wrote something.
func (c *checker) whichever(paths ...string) string {
	for _, p := range paths {
		if c.given(p) {
			return p
		}
	}
	return paths[0]
}

var hostNamePattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$`)

func (c *checker) hostName(path, name, hint string) {
	if name == "" {
		c.failHint(path, hint, "%s is missing", path)
	} else if !hostNamePattern.MatchString(name) {
		c.fail(path, "%s is %q, must be 1 to 63 letters, digits, dots, dashes or underscores and begin with a letter or digit", path, name)
	}
}

func (c *checker) directory(path, dir string) {
	if !filepath.IsAbs(dir) || strings.ContainsRune(dir, 0) {
		c.fail(path, "%s is %q, must be an absolute path", path, dir)
	}
}

// reach checks bind and advertise; advertise follows bind.
func (c *checker) reach(bind netip.Addr, advertise *netip.Addr) {
	if !bind.IsValid() {
		c.failHint("bind", "write this host's address in the cluster's network, e.g. bind: 192.0.2.11", "bind is missing")
		return
	}
	if !advertise.IsValid() {
		*advertise = bind
		if bind.IsUnspecified() {
			c.failHint("bind", "add advertise: with this host's address", "bind is %s, which others cannot reach", bind)
		}
		return
	}
	if advertise.IsUnspecified() || advertise.IsMulticast() {
		c.fail("advertise", "advertise is %s, which others cannot reach", *advertise)
	}
}

func (c *checker) seeds(seeds []string, port int) {
	for i, seed := range seeds {
		host, p, err := net.SplitHostPort(seed)
		path := fmt.Sprintf("seeds[%d]", i)
		if err != nil {
			c.failHint(path, fmt.Sprintf("did you mean %s?", net.JoinHostPort(strings.Trim(seed, "[]"), strconv.Itoa(port))),
				"seed %q must be host:port", seed)
			continue
		}
		if n, err := strconv.Atoi(p); err != nil || n < 1 || n > math.MaxUint16 || host == "" {
			c.fail(path, "seed %q must be host:port with a port from 1 to 65535", seed)
		}
	}
}

func (c *checker) port(path string, port int) {
	if port < 1 || port > math.MaxUint16 {
		c.fail(path, "%s is %d, must be 1 to 65535", path, port)
	}
}

// distinct reports paths whose ports were taken by an earlier one.
func (c *checker) distinct(ports map[string]int, paths ...string) {
	taken := map[int]string{}
	for _, path := range paths {
		port := ports[path]
		if other, ok := taken[port]; ok {
			c.fail(c.whichever(path, other), "%s and %s are both %d", other, path, port)
		}
		taken[port] = path
	}
}

func (c *checker) gossip(g Gossip) {
	c.port("gossip.port", g.Port)
	const make = "make a key with: coordctl keygen"
	switch {
	case c.bad("gossip.keys"):
	case len(g.Keys) > 0 && g.KeyFile != "":
		c.fail("gossip.key_file", "gossip.keys and gossip.key_file are both given; leave one out")
	case len(g.Keys) == 0 && g.KeyFile == "":
		c.failHint("gossip.keys", make, "gossip.keys (or gossip.key_file) is missing; all members must have the same")
	case g.KeyFile != "":
		c.directory("gossip.key_file", g.KeyFile)
	}
	seen := map[Key]bool{}
	for i, k := range g.Keys {
		path := fmt.Sprintf("gossip.keys[%d]", i)
		if k == (Key{}) {
			c.failHint(path, make, "a key of zeros is no key")
		}
		if seen[k] {
			c.fail(path, "this key is in the list twice")
		}
		seen[k] = true
	}
}

func (c *checker) log(l Log) {
	if levels := []string{"debug", "info", "warn", "error"}; !slices.Contains(levels, l.Level) {
		c.failHint("log.level", didYouMean(l.Level, levels), "log.level is %q, must be one of %s", l.Level, quoteAll(levels))
	}
	if formats := []string{"text", "json"}; !slices.Contains(formats, l.Format) {
		c.failHint("log.format", didYouMean(l.Format, formats), "log.format is %q, must be one of %s", l.Format, quoteAll(formats))
	}
}

// fence insists on the word for no fence at all.
func (c *checker) fence(v string) {
	if kinds := []string{"auto", "ebpf", "nft", "none"}; !slices.Contains(kinds, v) {
		c.failHint("fence", didYouMean(v, kinds), "fence is %q, must be one of %s", v, quoteAll(kinds))
	}
	switch v {
	case "nft":
		c.warn("fence", "fence is nft, the weaker one: a frozen agent that wakes up late can open it again for a few packets, and nft flush ruleset removes it")
	case "none":
		c.warn("fence", "fence is none: an agent that is frozen or killed keeps its addresses for up to a second or two after another host has them")
	}
}

func didYouMean(word string, known []string) string {
	if k := closest(word, known); k != "" {
		return fmt.Sprintf("did you mean %q?", k)
	}
	return ""
}

// tls insists on the words, so that nobody runs without protection unawares.
func (c *checker) tls(v string) {
	const hint = "this version cannot protect its connections; if the network is trusted, say so: tls: off"
	switch {
	case c.bad("tls"):
	case v == "":
		c.failHint("tls", hint, "tls is missing")
	case v != "off":
		c.failHint("tls", hint, "tls is %q, which this version does not have", v)
	default:
		c.warn("tls", "tls is off: whoever can reach the raft and api ports controls the cluster")
	}
}
