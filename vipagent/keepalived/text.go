package keepalived

import "strings"

// text is a piece of a configuration line that remembers where each byte came from,
// so that what is wrong in it can be shown in the file, whatever was substituted.
type text struct {
	file string
	line int
	s    string
	cols []int // of each byte of s, counting from 1
	// clean: comments are gone already.
	clean bool
}

// newText is a whole line of a file.
func newText(file string, line int, s string) text {
	cols := make([]int, len(s))
	for i := range cols {
		cols[i] = i + 1
	}
	return text{file: file, line: line, s: s, cols: cols}
}

// at is the place of byte i; one past the end is the place after the last byte.
func (t text) at(i int) Position {
	p := Position{File: t.file, Line: t.line, Column: 1}
	switch {
	case i < len(t.cols):
		p.Column = t.cols[i]
	case len(t.cols) > 0:
		p.Column = t.cols[len(t.cols)-1] + 1
	}
	return p
}

// cut is the bytes from i up to j.
func (t text) cut(i, j int) text {
	t.s, t.cols = t.s[i:j], t.cols[i:j:j]
	return t
}

// from is the bytes from i on, without white space before them.
func (t text) from(i int) text {
	for i < len(t.s) && isBlank(t.s[i]) {
		i++
	}
	return t.cut(i, len(t.s))
}

// trimRight drops white space at the end.
func (t text) trimRight() text {
	return t.cut(0, len(strings.TrimRight(t.s, " \t")))
}

// replace puts s, which came from elsewhere, in the place of the bytes from i up to j.
func (t text) replace(i, j int, s string) text {
	cols := make([]int, 0, len(t.cols)+len(s)-(j-i))
	cols = append(cols, t.cols[:i]...)
	col := t.at(i).Column
	for range len(s) {
		cols = append(cols, col)
	}
	t.cols = append(cols, t.cols[j:]...)
	t.s = t.s[:i] + s + t.s[j:]
	return t
}

func isBlank(c byte) bool { return c == ' ' || c == '\t' }

func isSpace(c byte) bool { return c == ' ' || c >= '\t' && c <= '\r' }

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

func isLetter(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' }

// isNameByte: definitions are named like variables of C.
func isNameByte(c byte) bool { return isLetter(c) || isDigit(c) || c == '_' }
