package lab

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// stageTime is the stage in which this program puts itself into a time namespace
// and becomes the program that timeVariable names.
const (
	stageTime    = "time"
	timeVariable = "HOLDFAST_LAB_TIME" // JSON: seconds, then the arguments
)

// StartInTime starts a program in a time namespace of its own, whose boot clock
// is ahead of the machine's, as a container's may be after it was restored on
// another machine.
func (h *Host) StartInTime(c Command, ahead time.Duration) (*Process, error) {
	words, err := json.Marshal(append([]string{fmt.Sprint(int(ahead.Seconds())), c.Path}, c.Args...))
	if err != nil {
		return nil, fmt.Errorf("write arguments: %w", err)
	}
	c.Path, c.Args = "/proc/self/exe", os.Args[1:]
	c.Env = append(c.Env, stageVariable+"="+stageTime, timeVariable+"="+string(words))
	return h.Start(c)
}

// becomeInTime is the started program's part: namespace, offset, exec (which
// enters the namespace since Linux 6.1). It does not return unless it failed.
func becomeInTime() error {
	var words []string
	if err := json.Unmarshal([]byte(os.Getenv(timeVariable)), &words); err != nil || len(words) < 2 {
		return errors.Join(fmt.Errorf("read %s: %q", timeVariable, words), err)
	}
	runtime.LockOSThread() // the namespace is for what this thread executes
	if err := unix.Unshare(unix.CLONE_NEWTIME); err != nil {
		return fmt.Errorf("make a time namespace: %w", err)
	}
	offsets := fmt.Sprintf("/proc/%d/timens_offsets", unix.Gettid())
	if err := os.WriteFile(offsets, fmt.Appendf(nil, "boottime %s 0\n", words[0]), 0); err != nil {
		return fmt.Errorf("set the boot clock: %w", err)
	}
	return fmt.Errorf("execute %s: %w", words[1], syscall.Exec(words[1], words[1:], withoutStage(os.Environ())))
}
