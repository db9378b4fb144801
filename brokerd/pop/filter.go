package pop

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// ErrFilter: a filter expression that cannot be obeyed.
var ErrFilter = errors.New("illegal filter expression")

// Bounds of a tag expression.
const (
	maxExpression = 8192 // bytes
	maxTags       = 128
)

// Filter chooses messages by their tag. The zero value takes all.
type Filter struct{ tags []string }

// ParseTags parses a tag expression: "*" or nothing for all messages, else tags between
// "||", of which a message must have one.
func ParseTags(expression string) (Filter, error) {
	if len(expression) > maxExpression {
		return Filter{}, fmt.Errorf("parse tag expression: %d bytes, at most %d: %w", len(expression), maxExpression, ErrFilter)
	}
	e := strings.TrimSpace(expression)
	if e == "" || e == "*" {
		return Filter{}, nil
	}
	var f Filter
	for tag := range strings.SplitSeq(e, "||") {
		tag = strings.TrimSpace(tag)
		if tag == "" || strings.Contains(tag, "|") {
			return Filter{}, fmt.Errorf("parse tag expression %q: tag %q: %w", e, tag, ErrFilter)
		}
		if len(f.tags) == maxTags {
			return Filter{}, fmt.Errorf("parse tag expression: more than %d tags: %w", maxTags, ErrFilter)
		}
		f.tags = append(f.tags, tag)
	}
	return f, nil
}

// Match tells whether a message with that tag is chosen.
func (f Filter) Match(tag string) bool { return f.tags == nil || slices.Contains(f.tags, tag) }
