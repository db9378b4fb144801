package lab

import (
	"os"
	"strconv"
	"strings"
	"time"
)

// Stall says how much the machine held the lab itself up.
type Stall struct {
	Max time.Duration // the latest single tick
	Sum time.Duration // all ticks that were late by more than a millisecond, added
	CPU time.Duration // time in which some task waited for a processor (/proc/pressure/cpu); 0 where the kernel does not tell
}

// tolerable is how late a tick may be without being counted as a stall.
const tolerable = time.Millisecond

// delay is one tick that came late.
type delay struct{ due, at Time }

// lateness records late ticks.
type lateness struct{ delays []delay }

func (l *lateness) record(due, at Time) {
	if at.Sub(due) > tolerable {
		l.delays = append(l.delays, delay{due, at})
	}
}

// within returns the stall between two times. A tick that was due before the
// window or came after it counts with the part that lies inside.
func (l *lateness) within(from, to Time) Stall {
	var s Stall
	for _, d := range l.delays {
		late := min(d.at, to).Sub(max(d.due, from))
		if late <= 0 {
			continue
		}
		s.Max = max(s.Max, late)
		s.Sum += late
	}
	return s
}

// pressure is one reading of the kernel's pressure counter.
type pressure struct {
	at    Time
	total time.Duration
}

// Pressure returns how long some task of the machine has waited for a processor since
// boot; 0 where the kernel does not tell.
func Pressure() time.Duration {
	p, _ := readPressure()
	return p.total
}

// readPressure returns how long some task has waited for a processor since
// boot.
func readPressure() (pressure, bool) {
	b, err := os.ReadFile("/proc/pressure/cpu")
	if err != nil {
		return pressure{}, false
	}
	return parsePressure(string(b), Now())
}

func parsePressure(text string, at Time) (pressure, bool) {
	line, _, _ := strings.Cut(text, "\n")
	_, total, ok := strings.Cut(line, "total=")
	if !ok || !strings.HasPrefix(line, "some ") {
		return pressure{}, false
	}
	us, err := strconv.ParseInt(total, 10, 64)
	if err != nil {
		return pressure{}, false
	}
	return pressure{at: at, total: time.Duration(us) * time.Microsecond}, true
}
