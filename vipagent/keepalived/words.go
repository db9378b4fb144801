package keepalived

import "strings"

// word is one word of a line.
type word struct {
	text string
	at   Position
}

// splitWords takes a line apart at white space. Double quotes make one word of what is
// between them, and end the word before them. It says whether a quote was left open;
// what follows that is dropped, as Keepalived does.
func splitWords(t text) (words []word, open bool) {
	for i := 0; i < len(t.s); {
		if isSpace(t.s[i]) {
			i++
			continue
		}
		start := i
		if t.s[i] == '"' {
			n := strings.IndexByte(t.s[i+1:], '"')
			if n < 0 {
				return words, true
			}
			words = append(words, word{t.s[i+1 : i+1+n], t.at(start)})
			i += n + 2
			continue
		}
		for i < len(t.s) && !isSpace(t.s[i]) && t.s[i] != '"' {
			i++
		}
		words = append(words, word{t.s[start:i], t.at(start)})
	}
	return words, false
}

// splitCommand takes a line apart as a shell would: quotes of both kinds may be in the
// middle of a word, and a backslash escapes. It says what is wrong, if anything.
func splitCommand(t text) (words []word, wrong string) {
	for i := 0; i < len(t.s); {
		if isSpace(t.s[i]) {
			i++
			continue
		}
		w, n, wrong := commandWord(t.s[i:])
		if wrong != "" {
			return nil, wrong
		}
		words = append(words, word{w, t.at(i)})
		i += n
	}
	return words, ""
}

// commandWord reads one word, and says how many bytes it took.
func commandWord(s string) (w string, n int, wrong string) {
	var b strings.Builder
	var quote byte
	i := 0
	for i < len(s) {
		c := s[i]
		switch {
		case c == '\\':
			e, used := unescape(s[i+1:])
			if used == 0 {
				return "", 0, `a "\" with nothing after it`
			}
			b.WriteByte(e)
			i += 1 + used
			continue
		case quote != 0 && c == quote:
			quote = 0
		case quote != 0:
			b.WriteByte(c)
		case c == '"' || c == '\'':
			quote = c
		case isSpace(c):
			return b.String(), i, ""
		default:
			b.WriteByte(c)
		}
		i++
	}
	if quote != 0 {
		return "", 0, "missing terminating " + string(quote)
	}
	return b.String(), i, ""
}

// unescape reads what follows a backslash: \xHH..., \cX, \NNN, \a \b \E \f \n \r \t \v,
// or a character that stands for itself.
func unescape(s string) (c byte, used int) {
	switch {
	case s == "":
		return 0, 0
	case s[0] == 'x' && len(s) > 1 && isHex(s[1]):
		n := 1
		for n < len(s) && isHex(s[n]) {
			c = c<<4 | hexValue(s[n])
			n++
		}
		return c, n
	case s[0] == 'c' && len(s) > 1:
		return s[1] & 0x1f, 2
	case isOctal(s[0]):
		n := 0
		for n < 3 && n < len(s) && isOctal(s[n]) {
			c = c<<3 + s[n] - '0'
			n++
		}
		return c, n
	}
	if i := strings.IndexByte("abEfnrtv", s[0]); i >= 0 {
		return "\a\b\x1b\f\n\r\t\v"[i], 1
	}
	return s[0], 1
}

func isOctal(c byte) bool { return c >= '0' && c <= '7' }

func isHex(c byte) bool { return isDigit(c) || c|0x20 >= 'a' && c|0x20 <= 'f' }

func hexValue(c byte) byte {
	if isDigit(c) {
		return c - '0'
	}
	return c | 0x20 - 'a' + 10
}
