package interop

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"holdfast/test/lab"
)

// pairing is who plays a cell: a program on host 0, another on host 1.
type pairing [2]program

func (p pairing) String() string { return p[0].name + "-" + p[1].name }

// pairings returns who plays a cell: the program under test on either side of a
// foreign one.
func (c cell) pairings() []pairing {
	peer := keepalived()
	if c.setting.frr != "" {
		peer = frr()
	}
	var list []pairing
	for _, p := range underTest() {
		list = append(list, pairing{p, peer})
		if p.name != peer.name {
			list = append(list, pairing{peer, p})
		}
	}
	return slices.DeleteFunc(list, func(p pairing) bool { return c.only != nil && !c.only(p) })
}

// TestMatrix plays every cell with every pairing, most of them side by side, and
// shows all that was heard to tshark.
func TestMatrix(t *testing.T) {
	var heard captured
	play := func(t *testing.T, c cell, p pairing) {
		heard.add(c.name+"/"+p.String(), c.run(t, p))
	}
	t.Run("cells", func(t *testing.T) {
		for _, c := range cells() {
			for _, p := range c.pairings() {
				if !c.alone {
					t.Run(c.name+"/"+p.String(), func(t *testing.T) {
						t.Parallel()
						play(t, c, p)
					})
				}
			}
		}
	})
	for _, c := range cells() {
		for _, p := range c.pairings() {
			if c.alone {
				t.Run("cells/"+c.name+"/"+p.String(), func(t *testing.T) { play(t, c, p) })
			}
		}
	}
	t.Run("tshark", func(t *testing.T) {
		heard.mu.Lock()
		defer heard.mu.Unlock()
		objections, seen, err := dissect(t.Context(), t.TempDir(), heard.frames)
		check(t, err)
		t.Logf("%d advertisements shown to tshark", seen)
		want := 0
		for _, f := range heard.frames {
			if _, ok := lab.ParseAdvert(f); ok {
				want++
			}
		}
		if seen != want {
			t.Errorf("tshark sees %d advertisements, the lab %d", seen, want)
		}
		for number, words := range objections {
			t.Errorf("%s: %s", heard.from[number-1], words)
		}
	})
}

// dissect shows frames to tshark. It returns, by frame number from 1 on, what
// tshark has against an advertisement: a bad checksum, malformed data, any note of
// its experts.
func dissect(ctx context.Context, dir string, frames []lab.Frame) (objections map[int]string, seen int, err error) {
	file := filepath.Join(dir, "adverts.pcap")
	var capture bytes.Buffer
	if err := lab.WritePcap(&capture, frames); err != nil {
		return nil, 0, err
	}
	if err := os.WriteFile(file, capture.Bytes(), 0o644); err != nil {
		return nil, 0, err
	}
	cmd := exec.CommandContext(ctx, "tshark", "-r", file, "-Y", "vrrp", "-o", "ip.check_checksum:TRUE", "-T", "fields", "-E", "separator=|",
		"-e", "frame.number", "-e", "vrrp.checksum.status", "-e", "ip.checksum.status", "-e", "_ws.expert.message", "-e", "_ws.malformed")
	cmd.Env = append(os.Environ(), "HOME="+dir)
	var talk bytes.Buffer
	cmd.Stderr = &talk
	out, err := cmd.Output()
	if err != nil {
		return nil, 0, &tsharkError{err, talk.String()}
	}
	objections = make(map[int]string)
	for line := range strings.Lines(string(out)) {
		fields := strings.Split(strings.TrimSpace(line), "|")
		number, err := strconv.Atoi(fields[0])
		if err != nil || len(fields) < 5 {
			return nil, 0, &tsharkError{err, line}
		}
		seen++
		const good = "1"
		ipSum := fields[2] == "" || fields[2] == good // IPv6 has none
		if fields[1] != good || !ipSum || fields[3] != "" || fields[4] != "" {
			objections[number] = "tshark: " + strings.TrimSpace(line)
		}
	}
	return objections, seen, nil
}

// tsharkError is that tshark could not be used.
type tsharkError struct {
	err  error
	said string
}

func (e *tsharkError) Error() string { return "run tshark: " + e.said }

func (e *tsharkError) Unwrap() error { return e.err }
