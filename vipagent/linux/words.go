package linux

import (
	"bufio"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// WordError says which word of a route or a rule is wrong.
type WordError struct {
	Place  int    // from 1; one more than there are words, if one is missing
	Word   string // empty if it is missing
	Reason string
}

func (e *WordError) Error() string {
	if e.Word == "" {
		return fmt.Sprintf("word %d: %s", e.Place, e.Reason)
	}
	return fmt.Sprintf("word %d, %q: %s", e.Place, e.Word, e.Reason)
}

// numbers finds what a name stands for in one of iproute2's files, such as rt_tables.
type numbers func(file, name string) (uint32, bool)

// words are the words of ip(8), read from the left.
type words struct {
	list    []string
	at      int // the next one
	numbers numbers
}

func (w *words) more() bool { return w.at < len(w.list) }

// next takes a word; false if there is none.
func (w *words) next() (string, bool) {
	if !w.more() {
		return "", false
	}
	w.at++
	return w.list[w.at-1], true
}

// skip takes the next word if it is this one.
func (w *words) skip(word string) bool {
	if w.more() && w.list[w.at] == word {
		w.at++
		return true
	}
	return false
}

// wrong is the error about the word that was taken last.
func (w *words) wrong(reason string) error {
	return &WordError{Place: w.at, Word: w.list[w.at-1], Reason: reason}
}

// value takes the value of the word before.
func (w *words) value() (string, error) {
	s, ok := w.next()
	if !ok {
		return "", &WordError{Place: len(w.list) + 1, Reason: fmt.Sprintf("%s lacks its value", w.list[len(w.list)-1])}
	}
	return s, nil
}

// number takes a number of so many bits, also in hexadecimal.
func (w *words) number(bits int) (uint32, error) {
	s, err := w.value()
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseUint(s, 0, bits)
	if err != nil {
		return 0, w.wrong(fmt.Sprintf("not a number of %d bits", bits))
	}
	return uint32(n), nil
}

// named takes a number or a name that iproute2 knows.
func (w *words) named(file string, bits int) (uint32, error) {
	s, err := w.value()
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseUint(s, 0, bits)
	if err == nil {
		return uint32(n), nil
	}
	if known, ok := w.numbers(file, s); ok && uint64(known)>>bits == 0 {
		return known, nil
	}
	return 0, w.wrong("neither a number nor a name in " + file)
}

// hexByte takes a byte that is hexadecimal without saying so, or a name.
func (w *words) hexByte(file string) (byte, error) {
	s, err := w.value()
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseUint(strings.TrimPrefix(s, "0x"), 16, 8)
	if err == nil {
		return byte(n), nil
	}
	if known, ok := w.numbers(file, s); ok && known < 256 {
		return byte(known), nil
	}
	return 0, w.wrong("neither a hexadecimal byte nor a name in " + file)
}

// name takes the name of an interface.
func (w *words) name() (string, error) {
	s, err := w.value()
	if err != nil {
		return "", err
	}
	if len(s) > 15 || strings.ContainsAny(s, "/ ") || s == "." || s == ".." || s == "" {
		return "", w.wrong("not a name of an interface")
	}
	return s, nil
}

// address takes an address of the family, which is set if it is 0.
func (w *words) address(f *family) (netip.Addr, error) {
	s, err := w.value()
	if err != nil {
		return netip.Addr{}, err
	}
	a, err := netip.ParseAddr(s)
	if err != nil || a.Zone() != "" {
		return netip.Addr{}, w.wrong("not an address")
	}
	return a, w.ofFamily(f, a)
}

// prefix takes an address with or without a length, or default, any or all, which
// are no prefix.
func (w *words) prefix(f *family) (netip.Prefix, error) {
	s, err := w.value()
	if err != nil {
		return netip.Prefix{}, err
	}
	return w.prefixOf(s, f)
}

func (w *words) prefixOf(s string, f *family) (netip.Prefix, error) {
	if slices.Contains([]string{"default", "any", "all"}, s) {
		return netip.Prefix{}, nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		a, err := netip.ParseAddr(s)
		if err != nil || a.Zone() != "" {
			return netip.Prefix{}, w.wrong("neither a word that is known here nor an address")
		}
		p = netip.PrefixFrom(a, a.BitLen())
	}
	return p, w.ofFamily(f, p.Addr())
}

func (w *words) ofFamily(f *family, a netip.Addr) error {
	is := familyOf(a)
	if *f != 0 && *f != is {
		return w.wrong("of the other family")
	}
	*f = is
	return nil
}

// iproute2 is what the files of iproute2 say, in the order in which it looks.
func iproute2(file, name string) (uint32, bool) {
	if n, ok := builtIn()[file+" "+name]; ok {
		return n, true
	}
	for _, directory := range []string{"/etc/iproute2/", "/usr/share/iproute2/", "/usr/lib/iproute2/"} {
		more, _ := filepath.Glob(directory + file + ".d/*.conf")
		for _, path := range append([]string{directory + file}, more...) {
			f, err := os.Open(path)
			if err != nil {
				continue
			}
			n, ok := findNumber(bufio.NewScanner(f), name)
			_ = f.Close()
			if ok {
				return n, true
			}
		}
	}
	return 0, false
}

// builtIn are names that need no file.
func builtIn() map[string]uint32 {
	return map[string]uint32{
		"rt_tables local": 255, "rt_tables main": 254, "rt_tables default": 253,
		"rt_protos kernel": 2, "rt_protos boot": 3, "rt_protos static": 4, "rt_protos keepalived": 18,
	}
}

// findNumber reads lines such as "254 main # comment".
func findNumber(s *bufio.Scanner, name string) (uint32, bool) {
	for s.Scan() {
		line, _, _ := strings.Cut(s.Text(), "#")
		fields := strings.Fields(line)
		if len(fields) != 2 || fields[1] != name {
			continue
		}
		if n, err := strconv.ParseUint(fields[0], 0, 32); err == nil {
			return uint32(n), true
		}
	}
	return 0, false
}
