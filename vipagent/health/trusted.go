package health

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// UntrustedError says why a program is not run: somebody other than root could
// have put it there.
type UntrustedError struct {
	Program string // as configured
	Path    string // the part of it that is at fault
	Reason  string
}

// Error names the part and the reason.
func (e *UntrustedError) Error() string {
	return fmt.Sprintf("will not run %s: %s %s", e.Program, e.Path, e.Reason)
}

// node is one file or directory as lstat shows it.
type node struct {
	mode fs.FileMode
	uid  uint32
	link string // target, if it is a symbolic link
}

func lstat(path string) (node, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return node{}, err
	}
	n := node{mode: info.Mode(), uid: ^uint32(0)}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		n.uid = st.Uid
	}
	if n.mode&fs.ModeSymlink != 0 {
		n.link, err = os.Readlink(path)
	}
	return n, err
}

// maxLinks is how many symbolic links a path may have, as in the kernel.
const maxLinks = 40

// checkTrusted returns nil if the program is an executable file that belongs to
// root and that nobody else can write, and so does every directory and symbolic
// link on the way. Then nobody else can change what the path means, also not
// between this and the start of the program. A directory that all may write is
// not trusted even if it is sticky, such as /tmp.
func checkTrusted(program string, lstat func(string) (node, error)) error {
	fault := func(path, reason string) error { return &UntrustedError{Program: program, Path: path, Reason: reason} }
	at, links := "/", 0
	rest := strings.Split(filepath.Clean(program), "/")
	for {
		n, err := lstat(at)
		if err != nil {
			return fmt.Errorf("look at script: %w", err)
		}
		if n.uid != 0 {
			return fault(at, fmt.Sprintf("belongs to user %d, not to root", n.uid))
		}
		if n.mode&fs.ModeSymlink != 0 {
			if links++; links > maxLinks {
				return fault(at, "is a symbolic link too many")
			}
			rest = append(strings.Split(n.link, "/"), rest...)
			if at = filepath.Dir(at); filepath.IsAbs(n.link) {
				at = "/"
			}
			continue
		}
		if n.mode.Perm()&0o022 != 0 {
			return fault(at, fmt.Sprintf("can be written by others than root (mode %#o)", n.mode.Perm()))
		}
		for len(rest) > 0 && (rest[0] == "" || rest[0] == ".") {
			rest = rest[1:]
		}
		if len(rest) == 0 {
			if !n.mode.IsRegular() || n.mode.Perm()&0o111 == 0 {
				return fault(at, "is not an executable file")
			}
			return nil
		}
		at, rest = filepath.Join(at, rest[0]), rest[1:] // ".." too: at has no symbolic link
	}
}
