package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"holdfast/cmd/internal/daemon"
	"holdfast/vipagent/keepalived"
	"holdfast/vipagent/linux"
	"holdfast/vipagent/router"
	"holdfast/vipagent/vrrp"
)

// Exit codes that keepalived has, too.
const exitCannotRun = 4 // the configuration cannot be used

// The signals of keepalived that have no name in Go: SIGRTMIN+2 and SIGRTMAX-1 as the
// C library counts.
const (
	signalJSON       = syscall.Signal(36)
	signalClearStats = syscall.Signal(63)
)

// plainCommand is `vipagent -f keepalived.conf`.
func plainCommand(args []string, out, errOut io.Writer) int {
	g, err := parsePlain(args)
	if err != nil {
		fmt.Fprintf(errOut, "vipagent: %v; try -f %s --help\n", err, plainDefault)
		return daemon.ExitUsage
	}
	switch {
	case g.has("help"):
		fmt.Fprint(errOut, plainUsage())
		return daemon.ExitOK
	case g.has("version"):
		fmt.Fprintln(errOut, "vipagent", daemon.Version(), "(plain mode: runs a keepalived.conf)")
		return daemon.ExitOK
	case g.has("signum"):
		return printSignal(g["signum"], out, errOut)
	case g.has("check") && !g.has("vrrp"):
		fmt.Fprintln(errOut, "vipagent: -C (--check) runs LVS and its health checkers, which are Keepalived's: let keepalived -C do that beside vipagent")
		return daemon.ExitUsage
	}
	p := plain{options: g, path: cmp.Or(g["use-file"], plainDefault), errOut: errOut}
	if g.has("config-test") {
		return p.test()
	}
	return p.run()
}

// printSignal prints the number of one of keepalived's signals.
func printSignal(name string, out, errOut io.Writer) int {
	numbers := map[string]syscall.Signal{
		"STOP": syscall.SIGTERM, "RELOAD": syscall.SIGHUP, "DATA": syscall.SIGUSR1, "STATS": syscall.SIGUSR2,
		"STATS_CLEAR": signalClearStats, "JSON": signalJSON,
	}
	n, ok := numbers[strings.ToUpper(name)]
	if !ok {
		fmt.Fprintf(errOut, "vipagent: unknown signal function %q\n", name)
		return daemon.ExitError
	}
	fmt.Fprintln(out, int(n))
	return daemon.ExitOK
}

// plain is one run of plain mode.
type plain struct {
	options given
	path    string
	errOut  io.Writer
	log     *slog.Logger
	mask    os.FileMode // the umask

	noAccept *linux.NoAccept
}

// parse reads the configuration.
func (p *plain) parse() (*keepalived.Config, []keepalived.Diagnostic) {
	host, err := os.Hostname()
	if err != nil {
		host = ""
	}
	id := host
	if p.options.has("config-id") {
		id = p.options["config-id"]
	}
	env := make(map[string]string)
	for _, v := range os.Environ() {
		if name, value, ok := strings.Cut(v, "="); ok {
			env[name] = value
		}
	}
	dir, err := os.Getwd()
	if err != nil {
		dir = "/"
	}
	c, ds := keepalived.Parse(configFiles{}, p.path, keepalived.Options{ConfigID: id, Env: env, PWD: dir})
	if c != nil && c.Global.RouterID == "" {
		c.Global.RouterID = host
	}
	return c, ds
}

// configFiles are the files of this host.
type configFiles struct{}

func (configFiles) Glob(pattern string) ([]string, error) { return filepath.Glob(pattern) }

// Read reads a file. Like Keepalived it reads nothing else: from a FIFO it would wait
// for a writer, and no signal would be heard meanwhile.
func (configFiles) Read(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	return io.ReadAll(f)
}

// test is --config-test.
func (p *plain) test() int {
	_, ds := p.parse()
	w := p.errOut
	if path := p.options["config-test"]; path != "" {
		f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o644)
		if err != nil {
			fmt.Fprintf(p.errOut, "vipagent: write result of test: %v\n", err)
			return daemon.ExitError
		}
		defer f.Close()
		w = f
	}
	for _, d := range ds {
		fmt.Fprintln(w, d)
	}
	return keepalived.ExitCode(ds)
}

// report logs what is to be said about a configuration.
func (p *plain) report(ds []keepalived.Diagnostic) {
	for _, d := range ds {
		level := slog.LevelWarn
		switch d.Severity {
		case keepalived.Info:
			level = slog.LevelInfo
		case keepalived.Error:
			level = slog.LevelError
		}
		p.log.Log(context.Background(), level, d.String())
	}
}

// warn says what a user of plain mode must know.
func (p *plain) warn() {
	p.log.Warn("plain mode: as with Keepalived, hosts that do not hear each other all become MASTER, and then more than one has the virtual addresses")
	p.log.Warn("plain mode: a vipagent that is killed or frozen leaves its addresses up, and no fence of the kernel closes them")
	p.log.Warn("plain mode: to have one holder and only one, import this configuration into a quorum: coordctl import " + p.path)
}

func (p *plain) run() int {
	daemon.SurviveClosedPipes()
	writer := newLogWriter(p.errOut)
	defer writer.Close()
	level := "info"
	if p.options.has("log-detail") {
		level = "debug"
	}
	p.log = daemon.NewLogger(writer, daemon.Log{Level: level}).With("program", "vipagent")
	var err error
	if p.mask, err = plainUmask(p.options); err != nil {
		p.log.Error("wrong umask", "umask", p.options["umask"])
		return daemon.ExitUsage
	}
	if p.options["umask"] != "" {
		syscall.Umask(int(p.mask))
	}
	c, ds := p.parse()
	p.report(ds)
	if keepalived.Fatal(ds) {
		p.log.Error("the configuration cannot be used", "file", p.path)
		return max(keepalived.ExitCode(ds), exitCannotRun)
	}
	name := cmp.Or(p.options["namespace"], c.Global.NetNamespace)
	if err := enterNamespace(name); err != nil {
		p.log.Error("cannot enter network namespace", "namespace", name, "error", err)
		return daemon.ExitError
	}
	if len(c.OtherBlocks) > 0 {
		p.log.Warn("not handled here, LVS is Keepalived's: run keepalived -C beside vipagent", "blocks", c.OtherBlocks)
	}
	p.warn()
	pids, err := p.pidFiles()
	if err != nil {
		p.log.Error("cannot start", "error", err)
		return daemon.ExitError
	}
	defer pids.remove()
	if err := p.serve(c); err != nil {
		p.log.Error("failed", "error", err)
		return daemon.ExitError
	}
	p.log.Info("stopped")
	return daemon.ExitOK
}

// serve runs the virtual routers until a signal says stop.
func (p *plain) serve(c *keepalived.Config) error {
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGUSR2, signalJSON, signalClearStats)
	defer signal.Stop(signals)
	kernel, err := linux.Open(linux.Config{Logger: p.log})
	if err != nil {
		return err
	}
	defer kernel.Close()
	raisePriority(c.Global, p.log)
	// The router knows what it is to have; what a killed process had for another
	// configuration, the mark alone tells.
	if n, err := kernel.SweepRoutes(); err != nil {
		p.log.Warn("cannot remove what a former process left", "error", err)
	} else if n > 0 {
		p.log.Info("a former process left routes and rules: removed", "count", n)
	}
	if p.noAccept, err = linux.OpenNoAccept(p.options.has("dont-release-vrrp")); err != nil {
		return err
	}
	defer p.noAccept.Close()
	p.dropNotAccepted(c)
	host := newPlainHost(kernel, p.mask)
	defer host.close()
	host.scripts.configure(c.Global)
	if err := prepareFiles(c, p.mask); err != nil {
		p.log.Warn("cannot make what the configuration asks for", "error", err)
	}
	r := router.New(router.Config{
		Keepalived: c, Logger: p.log, Clock: plainClock{}, Links: host.links, Addresses: host.addresses, Routes: host.routes, MACs: host.macs,
		Sockets: host.sockets, Scripts: host.scripts, Surroundings: host.files, Keep: p.options.has("dont-release-vrrp"),
	})
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	notify := daemon.NewNotifier()
	notify.Ready(fmt.Sprintf("%d virtual routers, plain mode", len(c.Instances)))
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	for {
		select {
		case err := <-done:
			return err
		case s := <-signals:
			switch s {
			case syscall.SIGHUP:
				p.reload(r, host.scripts)
			case syscall.SIGUSR1:
				r.Dump(router.DumpData)
			case syscall.SIGUSR2:
				r.Dump(router.DumpStats)
			case signalJSON:
				r.Dump(router.DumpJSON)
			case signalClearStats:
				r.Dump(router.ClearStats)
			default:
				p.log.Info("stopping", "signal", s.String())
				notify.Stopping()
				stop()
			}
		}
	}
}

// reload reads the configuration again; one that cannot be used changes nothing.
func (p *plain) reload(r *router.Router, scripts *plainScripts) {
	p.log.Info("reloading", "file", p.path)
	c, ds := p.parse()
	p.report(ds)
	if keepalived.Fatal(ds) {
		p.log.Error("the new configuration cannot be used: the old one stays", "file", p.path)
		return
	}
	if err := prepareFiles(c, p.mask); err != nil {
		p.log.Warn("cannot make what the configuration asks for", "error", err)
	}
	scripts.configure(c.Global)
	p.dropNotAccepted(c)
	r.Reload(c)
}

// dropNotAccepted makes the host drop packets to the addresses of instances with
// no_accept. The rules hold in every state: a host that is not MASTER takes no such
// packets anyway.
func (p *plain) dropNotAccepted(c *keepalived.Config) {
	var list []netip.Addr
	for _, in := range c.Instances {
		if in.Accept || in.Priority == vrrp.PriorityOwner {
			continue
		}
		for _, a := range slices.Concat(in.Addresses, in.Excluded) {
			list = append(list, a.Prefix.Addr())
		}
	}
	if err := p.noAccept.Set(list); err != nil {
		p.log.Error("no_accept is not enforced: packets to the virtual addresses are taken", "error", err)
	}
}
