package daemon

import (
	"encoding"
	"fmt"
	"net/netip"
	"reflect"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// isText tells whether t reads itself from text.
func isText(t reflect.Type) bool {
	return reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
}

// isScalar tells whether t is written as one word or number.
func isScalar(t reflect.Type) bool {
	if isText(t) {
		return true
	}
	switch t.Kind() {
	case reflect.String, reflect.Bool, reflect.Int, reflect.Int64, reflect.Float64:
		return true
	}
	return false
}

func keyOf(f reflect.StructField) string {
	key, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
	return key
}

func keysOf(t reflect.Type) []string {
	keys := make([]string, t.NumField())
	for i := range keys {
		keys[i] = keyOf(t.Field(i))
	}
	return keys
}

func fieldByKey(v reflect.Value, key string) (reflect.Value, bool) {
	if v.Kind() != reflect.Struct {
		return reflect.Value{}, false
	}
	for i := range v.NumField() {
		if keyOf(v.Type().Field(i)) == key {
			return v.Field(i), true
		}
	}
	return reflect.Value{}, false
}

// walkKeys calls fn for every key path of t that is not itself a section, in
// the order of the fields. It does not descend into lists.
func walkKeys(t reflect.Type, path string, fn func(path string, f reflect.StructField)) {
	for i := range t.NumField() {
		f := t.Field(i)
		p := join(path, keyOf(f))
		if f.Type.Kind() == reflect.Struct && !isScalar(f.Type) {
			walkKeys(f.Type, p, fn)
			continue
		}
		fn(p, f)
	}
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// typeName says in words what a value of type t must be.
func typeName(t reflect.Type) string {
	switch t {
	case reflect.TypeFor[time.Duration]():
		return "a duration such as 250ms, 1s or 1m30s"
	case reflect.TypeFor[netip.Addr]():
		return "an IP address"
	case reflect.TypeFor[Size]():
		return "a size such as 64MiB or 1GiB"
	case reflect.TypeFor[Key]():
		return "the base64 form of 32 bytes (make one: coordctl keygen)"
	}
	switch t.Kind() {
	case reflect.String:
		return "text"
	case reflect.Bool:
		return "true or false"
	case reflect.Int:
		return "a whole number"
	case reflect.Float64:
		return "a number"
	}
	return t.String()
}

// kindName says in words what a node is.
func kindName(n *yaml.Node) string {
	switch n.Kind {
	case yaml.SequenceNode:
		return "a list"
	case yaml.MappingNode:
		return "a section with keys"
	case yaml.AliasNode:
		return "an alias"
	}
	return "a single value"
}

// hintFor guesses what was meant by text where a value of type t must stand.
func hintFor(t reflect.Type, text string) string {
	word := strings.ToLower(text)
	switch {
	case t == reflect.TypeFor[time.Duration]():
		if _, err := strconv.Atoi(text); err == nil {
			return fmt.Sprintf("add a unit: %sms or %ss", text, text)
		}
	case t.Kind() == reflect.Bool:
		switch word {
		case "yes", "on", "1", "y":
			return `did you mean "true"?`
		case "no", "off", "0", "n":
			return `did you mean "false"?`
		}
	case t.Kind() == reflect.String:
		return fmt.Sprintf("put it in quotes if it is a name: %q", text)
	}
	return ""
}
