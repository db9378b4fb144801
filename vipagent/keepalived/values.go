package keepalived

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// number reads the i-th word as a number within bounds; instead says what holds
// otherwise.
func (p *parser) number(s *statement, i, low, high int, instead string) (int, bool) {
	n, err := strconv.ParseInt(strings.TrimLeft(s.arg(i), " \t"), 10, 64)
	switch {
	case err != nil:
		p.warn(s.argAt(i), s.kw.name, fmt.Sprintf("%s %q is not a number: %s", s.kw.name, s.arg(i), instead), semicolon(s.arg(i)))
	case n < int64(low) || n > int64(high):
		p.warn(s.argAt(i), s.kw.name, fmt.Sprintf("%s %d is not between %d and %d: %s", s.kw.name, n, low, high, instead), "")
	default:
		return int(n), true
	}
	return 0, false
}

func semicolon(word string) string {
	if strings.HasSuffix(word, ";") {
		return "lines do not end with a semicolon"
	}
	return ""
}

// seconds reads the i-th word as seconds with up to six decimal places.
func (p *parser) seconds(s *statement, i int, low, high time.Duration, instead string) (time.Duration, bool) {
	d, places, ok := parseSeconds(s.arg(i))
	switch {
	case !ok:
		p.warn(s.argAt(i), s.kw.name, fmt.Sprintf("%s %q is not a number of seconds: %s", s.kw.name, s.arg(i), instead), semicolon(s.arg(i)))
		return 0, false
	case d < low || d > high:
		p.warn(s.argAt(i), s.kw.name, fmt.Sprintf("%s %s is not between %s and %s s: %s", s.kw.name, s.arg(i), inSeconds(low), inSeconds(high), instead), "")
		return 0, false
	case places > 6:
		p.warn(s.argAt(i), s.kw.name, fmt.Sprintf("%s %s has more than six decimal places: rounded", s.kw.name, s.arg(i)), "")
	}
	return d.Round(time.Microsecond), true
}

// parseSeconds reads digits with at most one point.
func parseSeconds(s string) (d time.Duration, places int, ok bool) {
	whole, fraction, _ := strings.Cut(s, ".")
	if whole+fraction == "" || strings.Trim(whole+fraction, "0123456789") != "" || len(whole) > 9 {
		return 0, 0, false
	}
	n, _ := strconv.ParseInt("0"+whole, 10, 64)
	f, _ := strconv.ParseInt((fraction + "000000000")[:9], 10, 64)
	return time.Duration(n)*time.Second + time.Duration(f), len(fraction), true
}

// inSeconds writes a duration as a number of seconds.
func inSeconds(d time.Duration) string {
	return strconv.FormatFloat(d.Seconds(), 'f', -1, 64)
}

// flag reads a keyword that may be followed by on or off; alone it means on.
func (p *parser) flag(s *statement) (value, ok bool) {
	switch s.arg(1) {
	case "", "true", "on", "yes":
		return true, true
	case "false", "off", "no":
		return false, true
	}
	p.warn(s.argAt(1), s.kw.name, fmt.Sprintf("%s %q is ignored: it is on or off", s.kw.name, s.arg(1)), semicolon(s.arg(1)))
	return false, false
}

// address reads a word as an IP address.
func (p *parser) address(s *statement, i int, instead string) (netip.Addr, bool) {
	a, err := netip.ParseAddr(s.arg(i))
	if err != nil || a.Is4In6() {
		p.warn(s.argAt(i), s.kw.name, fmt.Sprintf("%s %q is not an IP address: %s", s.kw.name, s.arg(i), instead), semicolon(s.arg(i)))
		return netip.Addr{}, false
	}
	return a, true
}

// maxInterface is the longest name of an interface.
const maxInterface = 15

// interfaceName reads a word as the name of an interface.
func (p *parser) interfaceName(s *statement, i int) (string, bool) {
	if name := s.arg(i); len(name) <= maxInterface {
		return name, true
	}
	p.warn(s.argAt(i), s.kw.name, fmt.Sprintf("the interface name %q is longer than %d characters: ignored", s.arg(i), maxInterface), "")
	return "", false
}

// extra remarks on words that nothing reads.
func (p *parser) extra(s *statement, n int) {
	if len(s.words) > n+1 {
		p.info(s.words[n+1].at, s.kw.name, fmt.Sprintf("%q after %s is ignored", s.words[n+1].text, s.kw.name), "")
	}
}
