package main

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// quantile returns the value below which the share q of the values lies; 0 for
// no values.
func quantile(values []float64, q float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}

// spread writes the median and the largest of some values.
func spread(values []float64) string {
	return fmt.Sprintf("%s / %s", ms(quantile(values, 0.5)), ms(quantile(values, 1)))
}

// ms writes milliseconds with as many digits as mean something.
func ms(v float64) string {
	switch {
	case v < 0.05:
		return "0"
	case v < 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.0f", v)
}

func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// usage is what a process has used so far.
type usage struct {
	cpu      time.Duration
	rss, hwm int // KiB
}

// readUsage reads a process's use of processor and memory from /proc.
func readUsage(pid int) (usage, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return usage{}, fmt.Errorf("read use of a process: %w", err)
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return usage{}, fmt.Errorf("read use of a process: %w", err)
	}
	return parseUsage(string(stat), string(status))
}

// parseUsage reads fields 14 and 15 of stat (in ticks of 10 ms), counted after
// the program's name, which may contain blanks, and the sizes of status.
func parseUsage(stat, status string) (usage, error) {
	_, after, ok := strings.Cut(stat, ") ")
	fields := strings.Fields(after)
	if !ok || len(fields) < 13 {
		return usage{}, fmt.Errorf("read use of a process: %q", stat)
	}
	var u usage
	for _, f := range fields[11:13] {
		ticks, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return usage{}, fmt.Errorf("read use of a process: %w", err)
		}
		u.cpu += time.Duration(ticks) * 10 * time.Millisecond
	}
	for line := range strings.Lines(status) {
		key, value, _ := strings.Cut(line, ":")
		size, err := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(value), " kB"))
		switch {
		case err != nil:
		case key == "VmRSS":
			u.rss = size
		case key == "VmHWM":
			u.hwm = size
		}
	}
	return u, nil
}

// machine describes where the figures come from.
func machine() string {
	var name unix.Utsname
	kernel := "unknown kernel"
	if unix.Uname(&name) == nil {
		kernel = "Linux " + unix.ByteSliceToString(name.Release[:])
	}
	return fmt.Sprintf("Measured on %s, %d processors, %s.", kernel, runtime.NumCPU(), runtime.Version())
}
