package keepalived

// uncomment drops white space around a line and its comment, which begins at a "#"
// or "!" outside double quotes. A backslash before one of those makes it an ordinary
// character; a backslash at the very end stays, for it continues a definition. It
// says whether a quote was left open.
func uncomment(t text) (text, bool) {
	if t.clean {
		return t, false
	}
	t.clean = true
	t = t.from(0)
	quote, continued, end := false, false, -1
	for i := 0; i < len(t.s); i++ {
		switch c := t.s[i]; {
		case c == '"' && end < 0:
			quote = !quote
		case c == '\\' && i+1 == len(t.s):
			continued = true
		case c == '\\':
			if next := t.s[i+1]; !quote && end < 0 && (next == '#' || next == '!') {
				t = t.replace(i, i+1, "")
			} else {
				i++
			}
		case (c == '#' || c == '!') && !quote && end < 0:
			end = i
		}
	}
	slash := t.cut(max(len(t.s)-1, 0), len(t.s))
	if continued {
		t = t.cut(0, len(t.s)-1)
	}
	if end >= 0 {
		t = t.cut(0, min(end, len(t.s)))
	}
	t = t.trimRight()
	if continued {
		t = t.join(slash)
	}
	return t, quote
}

// join appends what came from the same line.
func (t text) join(u text) text {
	t.s += u.s
	t.cols = append(t.cols[:len(t.cols):len(t.cols)], u.cols...)
	return t
}
