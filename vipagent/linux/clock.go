package linux

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"holdfast/coordinator/lease"
)

// Boottime returns CLOCK_BOOTTIME: nanoseconds since this host booted, also
// while it was suspended. Leases are counted on this clock and on no other.
func Boottime() lease.Time {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		// Every kernel since 2.6.39 has this clock; without it no deadline
		// can be kept.
		panic(fmt.Sprintf("read CLOCK_BOOTTIME: %v", err))
	}
	return lease.Time(ts.Nano())
}

// BootID returns the random identifier of this boot of the kernel. Boot times
// of two boots must never be compared.
func BootID() (string, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("read boot id: %w", err)
	}
	id := strings.TrimSpace(string(b))
	if id == "" {
		return "", errors.New("read boot id: it is empty")
	}
	return id, nil
}

// SleepUntil returns nil once [Boottime] has reached t, at once if it has, or
// ctx.Err() if ctx ends first. It waits on a thread of its own for an absolute
// point in time, so that neither the Go scheduler's timers nor a suspended host
// make it late.
func SleepUntil(ctx context.Context, t lease.Time) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if Boottime() >= t {
		return nil
	}
	timer, err := unix.TimerfdCreate(unix.CLOCK_BOOTTIME, unix.TFD_CLOEXEC)
	if err != nil {
		return fmt.Errorf("create timer: %w", err)
	}
	defer unix.Close(timer)
	at := unix.ItimerSpec{Value: unix.NsecToTimespec(int64(t))}
	if err := unix.TimerfdSettime(timer, unix.TFD_TIMER_ABSTIME, &at, nil); err != nil {
		return fmt.Errorf("set timer: %w", err)
	}
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err != nil {
		return fmt.Errorf("create event: %w", err)
	}
	defer unix.Close(wake)

	woken := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(woken)
		one := [8]byte{1, 1, 1, 1, 1, 1, 1, 1} // any value but zero and all ones
		_, _ = unix.Write(wake, one[:])
	})
	defer func() {
		if !stop() {
			<-woken // or it might write to a descriptor that is somebody else's by then
		}
	}()

	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	fds := []unix.PollFd{{Fd: int32(timer), Events: unix.POLLIN}, {Fd: int32(wake), Events: unix.POLLIN}}
	for {
		_, err := unix.Poll(fds, -1)
		switch {
		case err != nil && !errors.Is(err, unix.EINTR):
			return fmt.Errorf("wait for timer: %w", err)
		case err == nil && fds[0].Revents != 0:
			return nil
		case err == nil && fds[1].Revents != 0:
			return ctx.Err()
		}
	}
}
