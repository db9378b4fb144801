package lab

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A disk that hangs is a write to it that does not come back. The lab makes one
// without a disk of its own and without root: a program that is started with a
// [Disk] runs under a seccomp filter that hands each fsync and fdatasync to the
// lab before the kernel does it. The lab lets it pass at once, or keeps it
// waiting.

// Disk is what lies under a process's fsync.
type Disk struct {
	listener int // the filter's notifications

	mu    sync.Mutex
	hangs chan struct{} // closed when the hang ends; nil: it does not hang
}

// Hang holds every fsync from now on, until Free.
func (d *Disk) Hang() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.hangs == nil {
		d.hangs = make(chan struct{})
	}
}

// Free lets what waits go on, and what comes pass.
func (d *Disk) Free() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.hangs != nil {
		close(d.hangs)
		d.hangs = nil
	}
}

// stageDisk is the stage in which this program puts itself under the filter and
// becomes the program that diskVariable names.
const (
	stageDisk    = "disk"
	diskVariable = "HOLDFAST_LAB_DISK" // JSON: the arguments, from the path on
	diskSocket   = 3                   // file descriptor to send the listener over
)

// StartOnDisk starts a program whose fsyncs the returned disk may hold.
func (h *Host) StartOnDisk(c Command) (*Process, *Disk, error) {
	words, err := json.Marshal(append([]string{c.Path}, c.Args...))
	if err != nil {
		return nil, nil, fmt.Errorf("write arguments: %w", err)
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("make sockets: %w", err)
	}
	defer unix.Close(pair[0])
	far := os.NewFile(uintptr(pair[1]), "disk")
	defer far.Close()
	c.Path, c.Args = "/proc/self/exe", os.Args[1:]
	c.Env = append(c.Env, stageVariable+"="+stageDisk, diskVariable+"="+string(words))
	c.files = []*os.File{far}
	p, err := h.Start(c)
	if err != nil {
		return nil, nil, err
	}
	_ = far.Close() // else the end of the program would not be seen
	listener, err := receiveFile(pair[0])
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("put %s on %s under the filter: %w", c.Name, h.Name, err), p.Kill())
	}
	d := &Disk{listener: listener}
	go d.serve()
	return p, d, nil
}

// receiveFile takes a file descriptor from a socket.
func receiveFile(socket int) (int, error) {
	oob := make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := unix.Recvmsg(socket, make([]byte, 1), oob, unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("receive: %w", err)
	}
	messages, err := unix.ParseSocketControlMessage(oob[:n])
	if err != nil || len(messages) != 1 {
		return -1, errors.Join(errors.New("no file came"), err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		return -1, errors.Join(errors.New("no file came"), err)
	}
	return fds[0], nil
}

// becomeOnDisk is the started program's part: filter, listener, exec. It does
// not return unless it failed.
func becomeOnDisk() error {
	var words []string
	if err := json.Unmarshal([]byte(os.Getenv(diskVariable)), &words); err != nil || len(words) == 0 {
		return fmt.Errorf("read %s: %w", diskVariable, err)
	}
	runtime.LockOSThread() // the filter is the thread's; exec makes it the program's
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("give up privileges: %w", err)
	}
	listener, err := installFilter(unix.SYS_FSYNC, unix.SYS_FDATASYNC)
	if err != nil {
		return fmt.Errorf("install filter: %w", err)
	}
	if err := unix.Sendmsg(diskSocket, []byte{0}, unix.UnixRights(listener), nil, 0); err != nil {
		return fmt.Errorf("send the listener: %w", err)
	}
	_ = unix.Close(listener)
	_ = unix.Close(diskSocket)
	env := withoutStage(os.Environ())
	return fmt.Errorf("execute %s: %w", words[0], syscall.Exec(words[0], words, env))
}

// installFilter makes the thread's calls of these numbers wait for the listener
// that it returns.
func installFilter(calls ...uint32) (int, error) {
	load := unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS} // the call's number
	code := []unix.SockFilter{load}
	for i, nr := range calls {
		code = append(code, unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jt: uint8(len(calls) - i), K: nr})
	}
	code = append(code,
		unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
		unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_USER_NOTIF})
	program := unix.SockFprog{Len: uint16(len(code)), Filter: &code[0]}
	fd, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_NEW_LISTENER, uintptr(unsafe.Pointer(&program)))
	if errno != 0 {
		return -1, errno
	}
	return int(fd), nil
}

// notice is struct seccomp_notif, reply is struct seccomp_notif_resp
// (linux/seccomp.h).
type notice struct {
	id    uint64
	pid   uint32
	flags uint32
	nr    int32
	arch  uint32
	ip    uint64
	args  [6]uint64
}

type reply struct {
	id    uint64
	val   int64
	err   int32
	flags uint32
}

const (
	ioctlReceive = 0xc0502100 // SECCOMP_IOCTL_NOTIF_RECV
	ioctlSend    = 0xc0182101 // SECCOMP_IOCTL_NOTIF_SEND
	goOn         = 1          // SECCOMP_USER_NOTIF_FLAG_CONTINUE
)

// serve answers the notifications until the program has ended.
func (d *Disk) serve() {
	defer unix.Close(d.listener)
	for {
		poll := []unix.PollFd{{Fd: int32(d.listener), Events: unix.POLLIN}}
		if _, err := unix.Poll(poll, -1); err != nil {
			if errors.Is(err, unix.EINTR) {
				continue
			}
			return
		}
		if poll[0].Revents&unix.POLLIN == 0 {
			return // nobody is under the filter any more
		}
		var n notice
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(d.listener), ioctlReceive, uintptr(unsafe.Pointer(&n))); errno != 0 {
			continue // the caller was killed meanwhile
		}
		d.mu.Lock()
		hangs := d.hangs
		d.mu.Unlock()
		if hangs == nil {
			d.pass(n.id)
			continue
		}
		go func() {
			<-hangs
			d.pass(n.id)
		}()
	}
}

// pass lets the kernel do the call. A caller that is gone is no error.
func (d *Disk) pass(id uint64) {
	r := reply{id: id, flags: goOn}
	_, _, _ = unix.Syscall(unix.SYS_IOCTL, uintptr(d.listener), ioctlSend, uintptr(unsafe.Pointer(&r)))
}
