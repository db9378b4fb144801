package main

import (
	"cmp"
	"context"
	"fmt"
	"os/user"
	"sync"

	"holdfast/vipagent/health"
	"holdfast/vipagent/keepalived"
)

// plainScripts runs the programs of a keepalived.conf. It is safe for concurrent use.
type plainScripts struct {
	mu     sync.Mutex
	global keepalived.Global
}

// configure takes the defaults of a configuration.
func (s *plainScripts) configure(g keepalived.Global) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.global = g
}

// defaultUser runs scripts if there is such a user and no other is configured.
const defaultUser = "keepalived_script"

// program fills in what a command leaves open.
func (s *plainScripts) program(c keepalived.Command) (p health.Program, strict bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p = health.Program{Args: c.Args, User: c.User, Group: c.Group, Supplementary: s.global.SupplementaryGroups}
	if p.User == "" {
		p.User, p.Group = s.global.ScriptUser, cmp.Or(c.Group, s.global.ScriptGroup)
	}
	if p.User == "" {
		p.User = "root"
		if _, err := user.Lookup(defaultUser); err == nil {
			p.User = defaultUser
		}
	}
	return p, s.global.ScriptSecurity
}

// Prepare says why a program would not be run.
func (s *plainScripts) Prepare(c keepalived.Command) error {
	p, strict := s.program(c)
	if err := p.Check(); err != nil {
		return err
	}
	if strict && p.Root() {
		if err := p.Trusted(); err != nil {
			return fmt.Errorf("script security: %w", err)
		}
	}
	return nil
}

// Run runs a program. The security check comes before each run: what it looks at may
// have been changed since the last.
func (s *plainScripts) Run(ctx context.Context, c keepalived.Command, extra ...string) error {
	if err := s.Prepare(c); err != nil {
		return err
	}
	p, _ := s.program(c)
	return p.Run(ctx, extra...)
}
