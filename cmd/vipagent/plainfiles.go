package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/mail"
	"net/smtp"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/vipagent/health"
	"holdfast/vipagent/keepalived"
)

// plainFiles are the files, processes and servers that a keepalived.conf names.
type plainFiles struct {
	mask  os.FileMode // what files that are made do not allow
	mu    sync.Mutex
	fifos map[string]fifo
}

// fifo is an open FIFO. It stays open: what nobody has read yet would be lost.
type fifo struct {
	fd  int
	ino uint64
}

// numberSize is how much of a tracked file is read.
const numberSize = 127

// Number reads the number at the beginning of a file, as strtol(3) does: a file that
// is missing, or begins with something else, is 0.
func (f *plainFiles) Number(path string) (int, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, nil // Keepalived takes it as 0, whatever is wrong
	}
	defer unix.Close(fd)
	buf := make([]byte, numberSize)
	n, err := unix.Read(fd, buf)
	if err != nil {
		return 0, nil
	}
	return leadingNumber(string(buf[:n]))
}

// leadingNumber returns the number at the beginning of a text, in C's notation.
func leadingNumber(text string) (int, error) {
	text = strings.TrimLeft(text, " \t\n\v\f\r")
	sign := ""
	if text != "" && (text[0] == '-' || text[0] == '+') {
		sign, text = text[:1], text[1:]
	}
	base, digits := 10, "0123456789"
	switch lower := strings.ToLower(text); {
	case len(lower) > 2 && strings.HasPrefix(lower, "0x") && strings.ContainsRune("0123456789abcdef", rune(lower[2])):
		base, digits, text = 16, "0123456789abcdefABCDEF", text[2:]
	case len(lower) > 1 && lower[0] == '0':
		base, digits = 8, "01234567"
	}
	end := 0
	for end < len(text) && strings.IndexByte(digits, text[end]) >= 0 {
		end++
	}
	if end == 0 {
		return 0, nil
	}
	n, err := strconv.ParseInt(sign+text[:end], base, 32)
	if err != nil {
		return 0, fmt.Errorf("read number: %w", err)
	}
	return int(n), nil
}

// Processes counts processes.
func (f *plainFiles) Processes(p keepalived.TrackProcess) (int, error) {
	return health.CountProcesses(health.ProcessMatch{Name: p.Process, Params: p.Params, Match: p.ParamMatch, Command: p.FullCommand})
}

// prepareFiles makes the tracked files and FIFOs that are to be made.
func prepareFiles(c *keepalived.Config, mask os.FileMode) error {
	var errs []error
	for _, f := range c.Files {
		if f.Init == nil {
			continue
		}
		flags := os.O_WRONLY | os.O_CREATE | os.O_TRUNC | unix.O_NONBLOCK // a FIFO has no reader to wait for
		if !f.InitOver {
			flags |= os.O_EXCL
		}
		file, err := os.OpenFile(f.Path, flags, 0o644)
		if errors.Is(err, os.ErrExist) {
			continue
		}
		if err == nil {
			_, err = fmt.Fprintln(file, *f.Init)
			err = errors.Join(err, file.Close())
		}
		errs = append(errs, err)
	}
	for _, f := range c.Global.NotifyFIFOs {
		err := makeFIFO(f.Path, mask)
		if errors.Is(err, unix.EEXIST) {
			continue
		}
		if err == nil && f.User != "" {
			err = health.Program{User: f.User, Group: f.Group}.Own(f.Path)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// Tell writes a line to a FIFO, and makes it if it is missing. Nobody is waited for:
// while there is no reader the kernel keeps what fits into the pipe.
func (f *plainFiles) Tell(path, line string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	var st unix.Stat_t
	err := unix.Stat(path, &st)
	if old, ok := f.fifos[path]; ok && (err != nil || st.Ino != old.ino) {
		unix.Close(old.fd) // somebody has replaced it
		delete(f.fifos, path)
	}
	if errors.Is(err, unix.ENOENT) {
		err = makeFIFO(path, f.mask)
	}
	if err != nil {
		return fmt.Errorf("make FIFO: %w", err)
	}
	open, ok := f.fifos[path]
	if !ok {
		if open, err = openFIFO(path); err != nil {
			return err
		}
		if f.fifos == nil {
			f.fifos = make(map[string]fifo)
		}
		f.fifos[path] = open
	}
	if _, err := unix.Write(open.fd, []byte(line)); err != nil {
		return fmt.Errorf("write to FIFO: %w", err)
	}
	return nil
}

// fileMode is that of FIFOs and dumps before the umask.
const fileMode = 0o644

func makeFIFO(path string, mask os.FileMode) error {
	return unix.Mkfifo(path, uint32(fileMode&^mask))
}

// openFIFO opens it for reading too, so that it may be opened and written without a
// reader.
func openFIFO(path string) (fifo, error) {
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	if err != nil {
		return fifo{}, fmt.Errorf("open FIFO: %w", err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFIFO {
		unix.Close(fd)
		return fifo{}, fmt.Errorf("open FIFO: %s is none", path)
	}
	return fifo{fd, st.Ino}, nil
}

// Write replaces a file. It makes a new one and renames it: a dump in /tmp must not
// follow somebody's link, and a reader never sees half of it.
func (f *plainFiles) Write(path string, content []byte) error {
	t, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("write file: %w", err)
	}
	_, err = io.Copy(t, bytes.NewReader(content))
	if err = errors.Join(err, t.Chmod(fileMode&^f.mask), t.Close()); err == nil {
		err = os.Rename(t.Name(), path)
	}
	if err != nil {
		_ = os.Remove(t.Name())
		return fmt.Errorf("write file: %w", err)
	}
	return nil
}

// smtpTimeout is the time for a whole mail, beside the connection.
const smtpTimeout = 30 * time.Second

// Mail sends a mail.
func (f *plainFiles) Mail(ctx context.Context, to keepalived.Email, subject, body string) error {
	server := to.Server
	if _, _, err := net.SplitHostPort(server); err != nil {
		server = net.JoinHostPort(server, "25")
	}
	timeout := to.ConnectTimeout
	if timeout <= 0 {
		timeout = smtpTimeout
	}
	dialer := net.Dialer{Timeout: timeout}
	conn, err := dialer.DialContext(ctx, "tcp", server)
	if err != nil {
		return fmt.Errorf("connect to mail server: %w", err)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	_ = conn.SetDeadline(time.Now().Add(smtpTimeout))
	host, _, _ := net.SplitHostPort(server)
	c, err := smtp.NewClient(conn, host)
	if err != nil {
		return fmt.Errorf("talk to mail server: %w", err)
	}
	defer c.Close()
	name := to.HELO
	if name == "" {
		if name, err = os.Hostname(); err != nil {
			name = "localhost"
		}
	}
	return sendMail(c, name, to, subject, body)
}

func sendMail(c *smtp.Client, name string, to keepalived.Email, subject, body string) error {
	from := to.From
	if from == "" {
		from = "keepalived@" + name
	}
	if err := c.Hello(name); err != nil {
		return fmt.Errorf("greet mail server: %w", err)
	}
	if err := c.Mail(bareAddress(from)); err != nil {
		return fmt.Errorf("name sender of mail: %w", err)
	}
	for _, x := range to.To {
		if err := c.Rcpt(bareAddress(x)); err != nil {
			return fmt.Errorf("name recipient of mail: %w", err)
		}
	}
	w, err := c.Data()
	if err != nil {
		return fmt.Errorf("send mail: %w", err)
	}
	_, err = fmt.Fprintf(w, "Date: %s\r\nFrom: %s\r\nTo: %s\r\nSubject: %s\r\nX-Mailer: Holdfast\r\n\r\n%s\r\n",
		time.Now().Format(time.RFC1123Z), header(from), header(strings.Join(to.To, ", ")), header(subject), body)
	if err = errors.Join(err, w.Close()); err != nil {
		return fmt.Errorf("send mail: %w", err)
	}
	return c.Quit()
}

// header keeps a value from beginning another line.
func header(s string) string { return strings.NewReplacer("\r", " ", "\n", " ").Replace(s) }

// bareAddress takes the name away from an address.
func bareAddress(s string) string {
	if a, err := mail.ParseAddress(s); err == nil {
		return a.Address
	}
	return s
}

// Close closes the FIFOs.
func (f *plainFiles) Close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, x := range f.fifos {
		unix.Close(x.fd)
	}
	f.fifos = nil
}
