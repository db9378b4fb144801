package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"holdfast/test/lab"
	"holdfast/test/lab/scenario"
)

// cell is the time that one character of a bar stands for.
const cell = 100 * time.Millisecond

// screen writes the timeline. On a terminal the bars of the running scenario
// grow in place; elsewhere they are written once, when it has ended.
type screen struct {
	mu    sync.Mutex
	out   io.Writer
	live  bool // a terminal that may be redrawn
	color bool
	drawn int // lines of bars on the terminal now
	bars  *bars
}

func newScreen(out *os.File) *screen {
	st, err := out.Stat()
	terminal := err == nil && st.Mode()&os.ModeCharDevice != 0 && os.Getenv("TERM") != "dumb"
	return &screen{out: out, live: terminal && os.Getenv("NO_COLOR") == "", color: terminal && os.Getenv("NO_COLOR") == ""}
}

func (s *screen) paint(code, text string) string {
	if !s.color {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

// line writes a line above the bars.
func (s *screen) line(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.erase()
	fmt.Fprintf(s.out, format+"\n", args...)
	s.draw()
}

// say writes what happens, with the time since the scenario began.
func (s *screen) say(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	s.mu.Lock()
	since := 0.0
	if s.bars != nil {
		since = lab.Now().Sub(s.bars.began).Seconds()
	}
	s.mu.Unlock()
	s.line("   %6.2f s  %s", since, text)
}

func (s *screen) begin(number, of int, title string) {
	s.line("\n%s", s.paint("1", fmt.Sprintf("%d/%d  %s", number, of, title)))
}

// follow draws the bars until the returned function is called.
func (s *screen) follow(stage *scenario.Stage, w *lab.StatusWatch) (stop func()) {
	s.mu.Lock()
	s.bars = newBars(stage, w)
	s.mu.Unlock()
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(cell)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				s.mu.Lock()
				s.bars.advance()
				s.erase()
				s.draw()
				s.mu.Unlock()
			}
		}
	}()
	return func() {
		close(done)
		<-ended
	}
}

// erase takes the bars off the terminal; draw puts them back.
func (s *screen) erase() {
	if s.drawn > 0 {
		fmt.Fprintf(s.out, "\x1b[%dA\x1b[J", s.drawn)
		s.drawn = 0
	}
}

func (s *screen) draw() {
	if s.live && s.bars != nil {
		lines := s.bars.lines()
		fmt.Fprintln(s.out, strings.Join(lines, "\n"))
		s.drawn = len(lines)
	}
}

// end leaves the bars as they are and writes the row.
func (s *screen) end(r scenario.Row) {
	s.mu.Lock()
	if !s.live && s.bars != nil {
		fmt.Fprintln(s.out, strings.Join(s.bars.lines(), "\n"))
	}
	s.drawn, s.bars = 0, nil
	s.mu.Unlock()
	verdict := s.paint("32", "as promised")
	if !r.OK {
		verdict = s.paint("31", "NOT AS PROMISED: "+r.Why)
	}
	s.line("   gap %s, overlap %s, takeover %s, %s -> %s: %s", figure(r.GapMS), figure(r.OverlapMS), figure(r.TakeoverMS), r.From, r.To, verdict)
}

// figure writes milliseconds; what is below a tenth is written as 0.
func figure(ms float64) string {
	switch {
	case ms < 0:
		return "-"
	case ms < 0.1:
		return "0 ms"
	case ms < 10:
		return fmt.Sprintf("%.1f ms", ms)
	}
	return fmt.Sprintf("%.0f ms", ms)
}

// bars are the rows of characters, one for each tenth of a second.
type bars struct {
	stage   *scenario.Stage
	watch   *lab.StatusWatch
	began   lab.Time
	next    lab.Time // where the next cell begins
	clients []*lab.Host
	rows    map[string]*strings.Builder
	order   []string
}

// delayed is how far behind the present the bars are drawn, so that what
// belongs to a cell has been read.
const delayed = 30 * time.Millisecond

func newBars(stage *scenario.Stage, w *lab.StatusWatch) *bars {
	b := &bars{stage: stage, watch: w, began: lab.Now(), clients: stage.Cluster.Network.Clients, rows: make(map[string]*strings.Builder)}
	b.next = b.began
	for _, c := range b.clients {
		b.order = append(b.order, c.Name)
	}
	b.order = append(b.order, "address", "leader")
	for _, name := range b.order {
		b.rows[name] = &strings.Builder{}
	}
	return b
}

// advance adds the cells that are complete.
func (b *bars) advance() {
	for end := b.next.Add(cell); lab.Now().Sub(end) >= delayed; end = b.next.Add(cell) {
		o := b.stage.Recorder.Observe(b.stage.VIPs[0], b.next, end)
		for _, c := range b.clients {
			b.rows[c.Name].WriteString(answerCell(o, c.Name))
		}
		b.rows["address"].WriteString(holderCell(b.stage.Recorder.Holders(b.stage.VIPs[0])))
		b.rows["leader"].WriteString(b.leaderCell(end))
		b.next = end
	}
}

// answerCell is the number of the host that answered the client, the later one
// if there were two; "." for no answer at all, ":" for a hole inside the cell.
func answerCell(o lab.Observations, client string) string {
	last := ""
	for _, a := range o.Answers {
		if a.Client == client {
			last = a.Host
		}
	}
	switch {
	case last == "":
		return "."
	case o.LongestGap(client).Length() > cell/3:
		return ":"
	}
	return number(last)
}

// holderCell is the number of the host that has the address, "." for none, "!"
// for more than one.
func holderCell(holders []string) string {
	switch len(holders) {
	case 0:
		return "."
	case 1:
		return number(holders[0])
	}
	return "!"
}

// leaderCell is the number of the leader as an operator last saw it.
func (b *bars) leaderCell(at lab.Time) string {
	s, seen := b.watch.Latest()
	if s == nil || s.Leader == "" || at.Sub(seen) > time.Second {
		return "."
	}
	return number(s.Leader)
}

func number(host string) string {
	if host == "" {
		return "."
	}
	return host[len(host)-1:]
}

// width is how many cells are shown: the newest.
const width = 100

func (b *bars) lines() []string {
	var lines []string
	for _, name := range b.order {
		cells := b.rows[name].String()
		if len(cells) > width {
			cells = ".." + cells[len(cells)-width+2:]
		}
		lines = append(lines, fmt.Sprintf("   %-8s  %s", name, cells))
	}
	return lines
}
