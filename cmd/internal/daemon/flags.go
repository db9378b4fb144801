package daemon

import (
	"fmt"
	"reflect"
	"time"

	"github.com/spf13/pflag"
)

// overrideFlags adds one flag for each scalar key and each list of words of the
// file kind, named like its key path. What a user gives ends up in the result,
// in the order of the command line.
func (f File[C]) overrideFlags(fs *pflag.FlagSet) *[]Override {
	given := new([]Override)
	cfg := f.defaults()
	root := reflect.ValueOf(&cfg).Elem()
	walkKeys(root.Type(), "", func(path string, field reflect.StructField) {
		t := field.Type
		list := t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.String
		if field.Tag.Get("flag") == "-" || (!isScalar(t) && !list) {
			return
		}
		value := &overrideValue{key: path, kind: flagKind(t), given: given}
		if v := byPath(root, path); !v.IsZero() {
			value.text = fmt.Sprint(v.Interface())
		}
		fs.Var(value, path, field.Tag.Get("help"))
	})
	return given
}

func byPath(root reflect.Value, path string) reflect.Value {
	var found reflect.Value
	var walk func(v reflect.Value, at string)
	walk = func(v reflect.Value, at string) {
		for i := range v.NumField() {
			field, p := v.Field(i), join(at, keyOf(v.Type().Field(i)))
			if p == path {
				found = field
			} else if field.Kind() == reflect.Struct && !isScalar(field.Type()) {
				walk(field, p)
			}
		}
	}
	walk(root, "")
	return found
}

// flagKind is the placeholder of a value in the usage text.
func flagKind(t reflect.Type) string {
	switch {
	case t == reflect.TypeFor[time.Duration]():
		return "duration"
	case isText(t):
		return "ip"
	case t.Kind() == reflect.Slice:
		return "a,b,..."
	}
	return t.Kind().String()
}

// overrideValue records what a flag was given, to be read with the rest of the
// configuration so that one parser knows all rules.
type overrideValue struct {
	key, kind, text string
	given           *[]Override
}

func (v *overrideValue) Set(text string) error {
	v.text = text
	*v.given = append(*v.given, Override{Key: v.key, Value: text})
	return nil
}

func (v *overrideValue) String() string { return v.text }

func (v *overrideValue) Type() string { return v.kind }
