package lab

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// Time is a point in time: nanoseconds of CLOCK_BOOTTIME.
type Time int64

// Now reads CLOCK_BOOTTIME.
func Now() Time { return readClock(unix.CLOCK_BOOTTIME) }

// Add returns the time d later.
func (t Time) Add(d time.Duration) Time { return t + Time(d) }

// Sub returns the duration from earlier to t.
func (t Time) Sub(earlier Time) time.Duration { return time.Duration(t - earlier) }

func readClock(clock int32) Time {
	var ts unix.Timespec
	if err := unix.ClockGettime(clock, &ts); err != nil {
		panic(fmt.Sprintf("read clock %d: %v", clock, err)) // cannot happen on a kernel that has the clock
	}
	return Time(ts.Nano())
}

// sleepUntil blocks the calling thread until t. It does not use Go's timers:
// they are served by whichever thread is free, which adds the scheduling noise
// that the lab wants to see and not to cause.
func sleepUntil(t Time) {
	ts := unix.NsecToTimespec(int64(t))
	for {
		err := unix.ClockNanosleep(unix.CLOCK_BOOTTIME, unix.TIMER_ABSTIME, &ts, nil)
		if !errors.Is(err, unix.EINTR) {
			return
		}
	}
}

// realtimeOffset returns what must be added to a CLOCK_REALTIME stamp of the
// kernel to get CLOCK_BOOTTIME. It repeats the reading when it was interrupted
// between the clocks.
func realtimeOffset() time.Duration {
	best, offset := time.Duration(1<<62), time.Duration(0)
	for range 8 {
		before := Now()
		wall := readClock(unix.CLOCK_REALTIME)
		after := Now()
		if took := after.Sub(before); took < best {
			best, offset = took, time.Duration(before-wall)+took/2
		}
		if best < 20*time.Microsecond {
			break
		}
	}
	return offset
}

// Poll calls check until it returns nil, with a pause of every between the
// calls. When ctx ends first it returns the last error of check.
func Poll(ctx context.Context, every time.Duration, check func() error) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		err := check()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waited in vain: %w", err)
		case <-tick.C:
		}
	}
}

// Wait lets a fault stay for a time; it returns early with ctx's error.
func Wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
