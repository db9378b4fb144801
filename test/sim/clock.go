package sim

import "holdfast/coordinator/lease"

// million is what rates are told in: parts of it.
const million = 1_000_000

// clock is a host's CLOCK_BOOTTIME: at real time zero it shows local, and it is wrong
// by ppm.
type clock struct{ real, local, ppm int64 }

// at is what the clock shows at a real time.
func (c clock) at(real int64) lease.Time {
	d := real - c.real
	return lease.Time(c.local + d + d*c.ppm/million)
}

// when is the first real time at which the clock shows t or more.
func (c clock) when(t lease.Time) int64 {
	d := int64(t) - c.local
	real := c.real + d*million/(million+c.ppm)
	for c.at(real) < t {
		real++
	}
	return real
}

// steered is the clock with another rate from now on.
func (c clock) steered(now, ppm int64) clock {
	return clock{real: now, local: int64(c.at(now)), ppm: ppm}
}
