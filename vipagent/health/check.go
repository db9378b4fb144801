// Package health runs the checks that decide whether a host is fit to hold a
// VIP set, and says so as one [Condition] per set.
package health

import (
	"time"
)

// Check is one entry of `checks:` in vipagent.yaml. A field that names types in
// its `for` tag belongs to those types only. The zero value of a field means
// its default; [Check.WithDefaults] fills them in.
type Check struct {
	Name string `yaml:"name"`
	// Type is one of script, process, file, interface, tcp, http, gateway.
	Type string `yaml:"type"`
	// Sets are the VIP sets that it concerns; none means every set.
	Sets []string `yaml:"sets,omitempty"`
	// Interval is the time from the start of one run to the start of the next
	// (default 1s, 250ms for process, file and interface).
	Interval time.Duration `yaml:"interval"`
	// Timeout is how long one run may take, in time that the agent itself was
	// running (default: the interval).
	Timeout time.Duration `yaml:"timeout"`
	// Rise is how many good runs in a row turn a bad check good (default 1).
	Rise int `yaml:"rise"`
	// Fall is how many bad runs in a row turn a good check bad (default 3 for
	// script, tcp, http and gateway, else 1).
	Fall int `yaml:"fall"`
	// Weight, if not 0, is added to the host's priority: a positive one while
	// the check is good, a negative one while it is bad. 0 means veto: while
	// the check is bad, the host must not hold the set.
	Weight int `yaml:"weight,omitempty"`
	// Veto may be written as true to say in words what weight 0 means.
	Veto bool `yaml:"veto,omitempty"`
	// Initial is what the check counts as before its first run has ended:
	// unknown (default), good or bad.
	Initial string `yaml:"initial"`

	Command []string `yaml:"command,omitempty" for:"script"` // argv; the first is an absolute path
	User    string   `yaml:"user,omitempty" for:"script"`    // user name or uid (default nobody)

	Comm    string `yaml:"comm,omitempty" for:"process"`    // name as in /proc/PID/comm
	Exe     string `yaml:"exe,omitempty" for:"process"`     // absolute path as in /proc/PID/exe
	Pidfile string `yaml:"pidfile,omitempty" for:"process"` // file with the pid

	Path       string `yaml:"path,omitempty" for:"file"`
	Contains   string `yaml:"contains,omitempty" for:"file"`    // text that the file must have
	Absent     bool   `yaml:"absent,omitempty" for:"file"`      // good while the file is not there
	ReadWeight bool   `yaml:"read_weight,omitempty" for:"file"` // the file has the weight, an integer

	Interface string `yaml:"interface,omitempty" for:"interface,gateway"`

	Address string `yaml:"address,omitempty" for:"tcp,gateway"` // tcp host:port, gateway IP

	URL      string `yaml:"url,omitempty" for:"http"`
	Status   []int  `yaml:"status,omitempty" for:"http"`    // accepted codes (default 200-299)
	Body     string `yaml:"body,omitempty" for:"http"`      // text that the first 1 MiB must have
	HostName string `yaml:"host_name,omitempty" for:"http"` // Host header and TLS server name
	Insecure bool   `yaml:"insecure,omitempty" for:"http"`  // do not verify the certificate
	Follow   bool   `yaml:"follow,omitempty" for:"http"`    // follow redirects
}

// Condition is what the checks say of one set on this host.
type Condition struct {
	Weight int    // to be added to the host's priority
	Veto   bool   // the host must not hold the set
	Reason string // which checks and why, "" when all are good
	// Pending says that a check has not had its first result yet, so that the
	// rest is provisional.
	Pending bool
}
