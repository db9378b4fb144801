package daemon

import (
	"bytes"
	"encoding"
	"errors"
	"fmt"
	"io"
	"math"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// maxFile bounds a configuration file, in bytes.
const maxFile = 1 << 20

// File is one kind of configuration file: [CoordinatorFile] or [AgentFile].
type File[C any] struct {
	program  string
	path     string // default path
	defaults func() C
	check    func(*C, *checker)
	guarded  func(C) bool // whether a guardian runs the daemon; nil: never
	janitor  func(C) func() (int, error)
}

// Override is a flag's value for one scalar key.
type Override struct {
	Key, Value string
}

// Parse reads a whole configuration, applies overrides, fills in defaults and
// checks every rule; name is what errors call the file. It touches nothing but
// r. The error is a [*ConfigError] with all problems at once, or r's own.
func (f File[C]) Parse(name string, r io.Reader, overrides ...Override) (C, []Warning, error) {
	cfg := f.defaults()
	data, err := io.ReadAll(io.LimitReader(r, maxFile+1))
	if err != nil {
		return cfg, nil, fmt.Errorf("read %s: %w", name, err)
	}
	c := newChecker(name, data)
	if len(data) > maxFile {
		c.fail("", "the file is longer than %d bytes", maxFile)
		return cfg, nil, c.err()
	}
	root := reflect.ValueOf(&cfg).Elem()
	c.root = root.Type()
	if node := c.document(data); node != nil {
		c.decode(node, root, "")
	}
	if len(c.problems) > 0 && c.syntax {
		return cfg, nil, c.err() // the rest of the file was not seen
	}
	for _, o := range overrides {
		c.override(root, o)
	}
	f.check(&cfg, c)
	return cfg, c.warnings, c.err()
}

// place is where a value came from.
type place struct {
	line, column int
	flag         bool
}

// checker collects what is wrong with one configuration.
type checker struct {
	name     string
	lines    []string
	root     reflect.Type
	places   map[string]place // by key path
	problems []Problem
	warnings []Warning
	syntax   bool // not YAML at all
}

func newChecker(name string, data []byte) *checker {
	return &checker{name: name, lines: strings.Split(string(data), "\n"), places: map[string]place{}}
}

func (c *checker) err() error {
	if len(c.problems) == 0 {
		return nil
	}
	sortProblems(c.problems)
	return &ConfigError{Problems: c.problems}
}

// problem places a message at the value of path or, if the file does not have
// it, at the section that it belongs to; a missing key at the top has no place.
func (c *checker) problem(path, message, hint string) Problem {
	p := Problem{File: c.name, Key: path, Message: hideKeys(message), Hint: hideKeys(hint)}
	near := c.nearest(path)
	at := c.places[near]
	if at.flag {
		p.Flag, p.Key = true, near
	}
	if at.line > 0 && at.line <= len(c.lines) {
		p.Line, p.Column = at.line, at.column
		p.Text = quoteLine(c.lines[at.line-1])
		if strings.HasPrefix(path, "gossip.keys") {
			p.Text = hidden
		}
	}
	return p
}

func (c *checker) fail(path, format string, args ...any) {
	c.failHint(path, "", format, args...)
}

// failHint reports a problem with what to do about it, unless the same value
// already has one: the first is the cause.
func (c *checker) failHint(path, hint, format string, args ...any) {
	p := c.problem(path, fmt.Sprintf(format, args...), hint)
	for _, q := range c.problems {
		if q.Key == p.Key && q.Flag == p.Flag {
			return
		}
	}
	c.problems = append(c.problems, p)
}

// nearest returns path or, if the file does not have it, the innermost section
// around it that the file has.
func (c *checker) nearest(path string) string {
	for p := path; p != ""; {
		if c.given(p) {
			return p
		}
		p = p[:max(strings.LastIndexAny(p, ".["), 0)]
	}
	return path
}

func (c *checker) warn(path, format string, args ...any) {
	c.warnings = append(c.warnings, c.problem(path, fmt.Sprintf(format, args...), ""))
}

// bad tells whether any of the paths, or a part of one, has a problem already.
func (c *checker) bad(paths ...string) bool {
	for _, path := range paths {
		for _, p := range c.problems {
			if p.Key == path || strings.HasPrefix(p.Key, path+".") || strings.HasPrefix(p.Key, path+"[") {
				return true
			}
		}
	}
	return false
}

// given tells whether the file or a flag has a value for path.
func (c *checker) given(path string) bool {
	_, ok := c.places[path]
	return ok
}

var yamlLine = regexp.MustCompile(`^yaml: (?:line (\d+): )?`)

// document returns the mapping at the top of the only document, or nil.
func (c *checker) document(data []byte) *yaml.Node {
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc, second yaml.Node
	if err := dec.Decode(&doc); errors.Is(err, io.EOF) {
		return nil // empty: the missing keys will be reported
	} else if err != nil {
		c.syntaxError(err)
		return nil
	}
	if err := dec.Decode(&second); err == nil {
		c.places[""] = place{line: second.Line, column: max(second.Column, 1)}
		c.fail("", "a second YAML document begins here; the file must have one")
		return nil
	} else if !errors.Is(err, io.EOF) {
		c.syntaxError(err)
		return nil
	}
	if len(doc.Content) != 1 {
		return nil
	}
	return doc.Content[0]
}

func (c *checker) syntaxError(err error) {
	c.syntax = true
	text := err.Error()
	if m := yamlLine.FindStringSubmatch(text); m != nil {
		if line, err := strconv.Atoi(m[1]); err == nil {
			c.places[""] = place{line: line, column: 1}
		}
		text = text[len(m[0]):]
	}
	c.fail("", "not YAML: %s", text)
}

// decode writes node into v, key by key; what does not fit is a problem and
// leaves the default.
func (c *checker) decode(node *yaml.Node, v reflect.Value, path string) {
	c.places[path] = place{line: node.Line, column: node.Column}
	switch {
	case node.Kind == yaml.AliasNode || node.Anchor != "":
		c.fail(path, "anchors and aliases are not allowed")
	case node.ShortTag() == "!!null" && path != "":
		c.failHint(path, "remove the key to get its default", "%s has no value", path)
	case isScalar(v.Type()):
		c.scalar(node, v, path)
	case v.Kind() == reflect.Slice:
		c.sequence(node, v, path)
	case v.Kind() == reflect.Pointer: // a block that may be left out as a whole
		v.Set(reflect.New(v.Type().Elem()))
		c.mapping(node, v.Elem(), path)
	default:
		c.mapping(node, v, path)
	}
}

func (c *checker) sequence(node *yaml.Node, v reflect.Value, path string) {
	if node.Kind != yaml.SequenceNode {
		c.failHint(path, "write [ ] around it, or each on a line of its own after \"- \"", "%s must be a list, not %s", path, kindName(node))
		return
	}
	out := reflect.MakeSlice(v.Type(), len(node.Content), len(node.Content))
	for i, item := range node.Content {
		c.decode(item, out.Index(i), fmt.Sprintf("%s[%d]", path, i))
	}
	v.Set(out)
}

func (c *checker) mapping(node *yaml.Node, v reflect.Value, path string) {
	if node.Kind != yaml.MappingNode {
		what := path
		if what == "" {
			what = "the file"
		}
		c.failHint(path, "keys: "+quoteAll(keysOf(v.Type())), "%s must have keys and values, not %s", what, kindName(node))
		return
	}
	seen := map[string]int{}
	for i := 0; i+1 < len(node.Content); i += 2 {
		key, value := node.Content[i], node.Content[i+1]
		child := join(path, key.Value)
		if key.Kind != yaml.ScalarNode {
			c.keyProblem(key, child, "a key must be a word", "")
			continue
		}
		if first, dup := seen[key.Value]; dup {
			c.keyProblem(key, child, fmt.Sprintf("duplicate key %q", key.Value), fmt.Sprintf("first on line %d", first))
			continue
		}
		seen[key.Value] = key.Line
		field, ok := fieldByKey(v, key.Value)
		if !ok {
			c.unknownKey(key, v.Type(), path)
			continue
		}
		c.decode(value, field, child)
	}
}

// keyProblem reports a problem at a key, not at its value. It is recorded under
// a path of its own, so that it does not hide problems of the value.
func (c *checker) keyProblem(key *yaml.Node, path, message, hint string) {
	p := Problem{File: c.name, Line: key.Line, Column: key.Column, Key: "key " + path, Message: hideKeys(message), Hint: hideKeys(hint)}
	if key.Line > 0 && key.Line <= len(c.lines) {
		p.Text = quoteLine(c.lines[key.Line-1])
	}
	c.problems = append(c.problems, p)
}

func (c *checker) unknownKey(key *yaml.Node, t reflect.Type, path string) {
	where := ""
	if path != "" {
		where = " in " + path
	}
	known := keysOf(t)
	hint := "known here: " + quoteAll(known)
	if k := closest(key.Value, known); k != "" {
		hint = fmt.Sprintf("did you mean %q?", k)
	} else if elsewhere := c.pathsOf(key.Value); len(elsewhere) > 0 {
		hint = fmt.Sprintf("did you mean %s?", strings.Join(elsewhere, " or "))
	}
	c.keyProblem(key, join(path, key.Value), fmt.Sprintf("unknown key %q%s", key.Value, where), hint)
}

// pathsOf returns the key paths of the file kind that end in key.
func (c *checker) pathsOf(key string) []string {
	var out []string
	walkKeys(c.root, "", func(path string, _ reflect.StructField) {
		if path == key || strings.HasSuffix(path, "."+key) {
			out = append(out, path)
		}
	})
	return out
}

func (c *checker) scalar(node *yaml.Node, v reflect.Value, path string) {
	if node.Kind != yaml.ScalarNode {
		c.fail(path, "%s must be %s, not %s", path, typeName(v.Type()), kindName(node))
		return
	}
	tag := node.ShortTag()
	wrong := false
	switch {
	case v.Type() == reflect.TypeFor[time.Duration](), isText(v.Type()):
	case v.Kind() == reflect.String:
		wrong = tag == "!!bool"
	case v.Kind() == reflect.Bool:
		wrong = tag != "!!bool"
	case v.Kind() == reflect.Int:
		wrong = tag != "!!int"
	case v.Kind() == reflect.Float64:
		wrong = tag != "!!int" && tag != "!!float"
	}
	if wrong {
		c.failHint(path, hintFor(v.Type(), node.Value), "%s must be %s, not %q", path, typeName(v.Type()), node.Value)
		return
	}
	c.set(v, path, node.Value)
}

// set writes a scalar's text into v.
func (c *checker) set(v reflect.Value, path, text string) {
	if u, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		if err := u.UnmarshalText([]byte(text)); err != nil {
			c.fail(path, "%s must be %s: %v", path, typeName(v.Type()), err)
		}
		return
	}
	bad := func() {
		c.failHint(path, hintFor(v.Type(), text), "%s must be %s, not %q", path, typeName(v.Type()), text)
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(text)
	case reflect.Bool:
		b, err := strconv.ParseBool(text)
		if err != nil || (text != "true" && text != "false") {
			bad()
			return
		}
		v.SetBool(b)
	case reflect.Int:
		n, err := strconv.Atoi(text)
		if err != nil {
			bad()
			return
		}
		v.SetInt(int64(n))
	case reflect.Float64:
		x, err := strconv.ParseFloat(text, 64)
		if err != nil || math.IsNaN(x) || math.IsInf(x, 0) {
			bad()
			return
		}
		v.SetFloat(x)
	case reflect.Int64: // time.Duration is the only one
		d, err := time.ParseDuration(text)
		if err != nil || d < 0 {
			bad()
			return
		}
		v.SetInt(int64(d))
	}
}

// override applies one flag.
func (c *checker) override(root reflect.Value, o Override) {
	v := root
	for key := range strings.SplitSeq(o.Key, ".") {
		field, ok := fieldByKey(v, key)
		if !ok {
			c.fail("", "unknown flag --%s", o.Key)
			return
		}
		v = field
	}
	c.clear(o.Key) // the flag replaces what the file says, right or wrong
	c.places[o.Key] = place{flag: true}
	if v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.String {
		var items []string
		for item := range strings.SplitSeq(o.Value, ",") {
			if item = strings.TrimSpace(item); item != "" {
				items = append(items, item)
			}
		}
		v.Set(reflect.ValueOf(items))
		return
	}
	c.set(v, o.Key, o.Value)
}

// clear forgets the problems and places of a path and of its items.
func (c *checker) clear(path string) {
	below := func(p string) bool { return p == path || strings.HasPrefix(p, path+"[") }
	kept := c.problems[:0]
	for _, p := range c.problems {
		if !below(p.Key) {
			kept = append(kept, p)
		}
	}
	c.problems = kept
	for p := range c.places {
		if below(p) {
			delete(c.places, p)
		}
	}
}
