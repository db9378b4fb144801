package lab

import (
	"fmt"
	"path/filepath"
	"strings"
)

// BrokerConfig says which brokers a cluster has.
type BrokerConfig struct {
	Hosts []*Host // where a broker runs
	Group string  // that all of them are members of
	Lines string  // more lines for each brokerd.yaml
	Data  string  // directory of the brokers' data, on a real disk; "": each host's own, in memory
}

// broker is the broker of a host.
type broker struct {
	process *Process
	disk    *Disk
}

// StartBroker starts the brokerd of a host, which is named like the host. Its disk can
// hang.
func (c *Cluster) StartBroker(h *Host) (*Process, error) {
	text := fmt.Sprintf(`name: %s
group: %s
data_dir: %s
bind: %s
seeds: %s
gossip:
  keys: [%q]
log: {level: %s}
tls: off
%s`, h.Name, c.config.Brokers.Group, c.BrokerDir(h), h.IPv4.Addr(), c.seeds(), c.key, c.config.Log, c.config.Brokers.Lines)
	if c.config.TTL != 0 {
		text += fmt.Sprintf("ttl: %s\n", c.config.TTL)
	}
	command, err := c.daemon(h, "brokerd", text)
	if err != nil {
		return nil, err
	}
	p, d, err := h.StartOnDisk(command)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.brokers[h] = broker{p, d}
	return p, nil
}

// BrokerDir is the data directory of the host's broker.
func (c *Cluster) BrokerDir(h *Host) string {
	if data := c.config.Brokers.Data; data != "" {
		return filepath.Join(data, h.Name)
	}
	return filepath.Join(h.Disk, "broker")
}

// Broker returns the host's latest broker process, or nil, and what lies under its fsync.
func (c *Cluster) Broker(h *Host) (*Process, *Disk) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.brokers[h].process, c.brokers[h].disk
}

// ClientEndpoints are the addresses of all brokers, as a RocketMQ client takes them.
func (c *Cluster) ClientEndpoints() string {
	var list []string
	for _, h := range c.config.Brokers.Hosts {
		list = append(list, h.IPv4.Addr().String()+":8081")
	}
	return strings.Join(list, ";")
}
