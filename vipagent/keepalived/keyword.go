package keepalived

import (
	"slices"
	"strings"
)

// block is a place where keywords are valid.
type block string

// The blocks, named by the keyword that begins them.
const (
	topLevel      block = ""
	inGlobal      block = "global_defs"
	inInstance    block = "vrrp_instance"
	inAuth        block = "authentication"
	inHMAC        block = "auth_hmac"
	inScript      block = "vrrp_script"
	inProcess     block = "vrrp_track_process"
	inFile        block = "track_file"
	inSyncGroup   block = "vrrp_sync_group"
	inTrackGroup  block = "track_group"
	inGARPGroup   block = "garp_group"
	inServer      block = "virtual_server"
	inServerGroup block = "virtual_server_group"
	inRealServer  block = "real_server"
	inServerCheck block = "checkers of real_server"
	inSSL         block = "SSL"
	inBFD         block = "bfd_instance"
)

// String names the block for a person.
func (b block) String() string {
	if b == topLevel {
		return "the top level"
	}
	return string(b)
}

// where says "in" a block, or "at" the top level.
func (b block) where() string {
	if b == topLevel {
		return "at " + b.String()
	}
	return "in " + b.String()
}

// shape says what follows a keyword.
type shape uint8

const (
	line   shape = iota // words up to the end of the line
	items               // { lines of words }
	nested              // { keywords of a block of their own }
	opaque              // braces that are not looked into
)

// keyword is a word of the language.
type keyword struct {
	name  string
	in    block
	shape shape
	body  block // of a nested one
	// args are the words that have to follow; missing ones end Keepalived, unless soft.
	args int
	soft bool
	// handle takes a statement in; nil = Holdfast does not do what it asks for, and
	// reason says what that means.
	handle func(*parser, *statement)
	reason string
	// obsolete is what Keepalived asks for instead, when it complains about the
	// keyword.
	obsolete string
}

// language is all keywords.
type language struct {
	words  []keyword
	lookup map[block]map[string]*keyword
}

func newLanguage() *language {
	l := &language{words: slices.Concat(
		topKeywords(), globalKeywords(), globalUnhandled(), instanceKeywords(), garpKeywords(), scriptKeywords(),
		groupKeywords(), serverKeywords(), otherKeywords()),
		lookup: make(map[block]map[string]*keyword)}
	for i := range l.words {
		w := &l.words[i]
		if l.lookup[w.in] == nil {
			l.lookup[w.in] = make(map[string]*keyword)
		}
		l.lookup[w.in][w.name] = w
	}
	return l
}

// find looks a keyword of a block up.
func (l *language) find(in block, name string) *keyword { return l.lookup[in][name] }

// elsewhere are the blocks that know a keyword.
func (l *language) elsewhere(name string) (blocks []string) {
	for _, w := range l.words {
		if w.name == name && !slices.Contains(blocks, w.in.String()) {
			blocks = append(blocks, w.in.String())
		}
	}
	return blocks
}

// nearest is the keyword of a block that looks most like a misspelt one; "" if none
// does.
func (l *language) nearest(in block, name string) string {
	best, least := "", len(name)/3+1
	for _, w := range l.words {
		if w.in != in {
			continue
		}
		d := distance(strings.ToLower(name), strings.ToLower(w.name), least)
		if (strings.HasPrefix(name, w.name) || strings.HasPrefix(w.name, name)) && len(name) > 2 {
			d = min(d, 2)
		}
		if d < least || d == least && best == "" {
			best, least = w.name, d
		}
	}
	return best
}

// distance counts the insertions, deletions, replacements and swaps of neighbours
// that make b of a; it may stop at more than limit.
func distance(a, b string, limit int) int {
	if d := len(a) - len(b); d > limit || -d > limit {
		return limit + 1
	}
	before, last := make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row := make([]int, len(b)+1)
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last = last, row
	}
	return last[len(b)]
}
