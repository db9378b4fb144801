package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// Router is a program on a host that speaks VRRP. Its configuration is text in
// the program's own language.
type Router interface {
	// Start starts the program, from nothing or after its end.
	Start(config string) error
	// Reload makes the running program read another configuration.
	Reload(config string) error
	// Stop ends it as a service manager would, and waits.
	Stop(ctx context.Context) error
	// Kill ends all of it with SIGKILL, and waits.
	Kill() error
	// Log returns what the program has said since the first Start.
	Log() (string, error)
}

// RouterKind makes routers of one program.
type RouterKind func(*Host) Router

// KeepalivedRouter makes routers of the keepalived at a path.
func KeepalivedRouter(path string) RouterKind { return daemonRouter("keepalived", path) }

// HoldfastRouter makes routers of the vipagent at a path, in plain mode: it
// takes the arguments and the configuration of keepalived.
func HoldfastRouter(path string) RouterKind { return daemonRouter("vipagent", path) }

// daemonRouter makes routers of a program that is called as keepalived is.
func daemonRouter(name, path string) RouterKind {
	return func(h *Host) Router { return &keepalivedRouter{name: name, path: path, host: h} }
}

// keepalivedRouter is keepalived, or a program that is called like it. All that
// it writes is on the host's disk: several run on one machine.
type keepalivedRouter struct {
	name, path string
	host       *Host
	process    *Process
}

func (r *keepalivedRouter) file() string { return filepath.Join(r.host.Disk, "keepalived.conf") }

func (r *keepalivedRouter) Start(config string) error {
	if r.process != nil && r.process.Running() {
		return fmt.Errorf("start %s on %s: it runs", r.name, r.host.Name)
	}
	if err := r.write(config); err != nil {
		return err
	}
	p, err := r.host.Start(Command{Name: r.name, Path: r.path, Args: keepalivedArgs(r.host.Disk, r.file())})
	if err != nil {
		return err
	}
	r.process = p
	return nil
}

// keepalivedArgs are the arguments for a keepalived in the foreground that does
// VRRP alone and keeps its files in a directory of its own.
func keepalivedArgs(dir, file string) []string {
	return []string{
		"--dont-fork", "--vrrp", "--log-console", "--log-detail", "--no-syslog", "--use-file", file,
		"--pid", filepath.Join(dir, "keepalived.pid"), "--vrrp_pid", filepath.Join(dir, "vrrp.pid"),
	}
}

func (r *keepalivedRouter) write(config string) error {
	if err := os.WriteFile(r.file(), []byte(config), 0o600); err != nil {
		return fmt.Errorf("write configuration: %w", err)
	}
	return nil
}

func (r *keepalivedRouter) Reload(config string) error {
	if r.process == nil || !r.process.Running() {
		return fmt.Errorf("reload %s on %s: it does not run", r.name, r.host.Name)
	}
	if err := r.write(config); err != nil {
		return err
	}
	return r.process.Signal(unix.SIGHUP)
}

func (r *keepalivedRouter) Stop(ctx context.Context) error {
	if r.process == nil {
		return nil
	}
	return r.process.Stop(ctx)
}

func (r *keepalivedRouter) Kill() error {
	if r.process == nil || !r.process.Running() {
		return nil
	}
	// Its child says farewell when its parent dies first, unless it cannot move.
	return errors.Join(r.process.Freeze(), r.process.Kill())
}

func (r *keepalivedRouter) Log() (string, error) { return readLogs(r.process) }

// readLogs returns the logs of processes, one after the other.
func readLogs(processes ...*Process) (string, error) {
	var text []byte
	var errs []error
	for _, p := range processes {
		if p == nil {
			continue
		}
		b, err := os.ReadFile(p.Log)
		if err != nil {
			errs = append(errs, fmt.Errorf("read log: %w", err))
		}
		text = append(text, b...)
	}
	return string(text), errors.Join(errs...)
}

// stopAll stops processes in the reverse order of their start.
func stopAll(ctx context.Context, processes []*Process) error {
	var errs []error
	for _, p := range slices.Backward(processes) {
		errs = append(errs, p.Stop(ctx))
	}
	return errors.Join(errs...)
}
