package vrrp

import (
	"strconv"
	"strings"
	"testing"
	"time"
)

// words are the words of a script's line: plain ones and key=value.
type words struct {
	t     *testing.T
	plain []string
	named map[string]string
}

func parseWords(t *testing.T, text string) words {
	w := words{t: t, named: map[string]string{}}
	for word := range strings.FieldsSeq(text) {
		if key, value, ok := strings.Cut(word, "="); ok {
			w.named[key] = value
		} else {
			w.plain = append(w.plain, word)
		}
	}
	return w
}

// at returns a plain word, "" if there are not so many.
func (w words) at(i int) string {
	if i >= len(w.plain) {
		return ""
	}
	return w.plain[i]
}

// flag tells whether a plain word is there.
func (w words) flag(word string) bool {
	for _, p := range w.plain {
		if p == word {
			return true
		}
	}
	return false
}

func (w words) number(key, text string) int {
	if key != "" {
		text = w.named[key]
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		w.t.Fatalf("%s: %v", key, err)
	}
	return n
}

// time reads a duration: the first plain word without a key.
func (w words) time(key string) time.Duration {
	text := w.at(0)
	if key != "" {
		text = w.named[key]
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		w.t.Fatalf("%s: %v", key, err)
	}
	return d
}

// form reads the form of a checksum.
func (w words) form(key string) Checksum {
	switch w.named[key] {
	case "plain":
		return Plain
	case "pseudo":
		return Pseudo
	case "old":
		return OldUnicast
	}
	w.t.Fatalf("there is no form %q", w.named[key])
	return 0
}

// config changes c to what the words say.
func (w words) config(c Config) Config {
	keys := map[string]func(key string){
		"priority":    func(k string) { c.Priority = uint8(w.number(k, "")) },
		"version":     func(k string) { c.Version = uint8(w.number(k, "")) },
		"vrid":        func(k string) { c.VRID = uint8(w.number(k, "")) },
		"interval":    func(k string) { c.Interval = w.time(k) },
		"delay":       func(k string) { c.PreemptDelay = w.time(k) },
		"down":        func(k string) { c.DownAdverts = w.number(k, "") },
		"late-backup": func(k string) { c.LateBackup = uint8(w.number(k, "")) },
		"form":        func(k string) { c.Checksum = w.form(k) },
		"addresses":   func(k string) { c.Addresses = addresses(strings.Split(w.named[k], ",")...) },
		"primary":     func(string) {}, // an event of its own
		"name":        func(string) {},
	}
	for key := range w.named {
		set, ok := keys[key]
		if !ok {
			w.t.Fatalf("a router has no %q", key)
		}
		set(key)
	}
	flags := map[string]*bool{
		"start-active": &c.StartActive, "lower-no-advert": &c.LowerNoAdvert, "higher-advert": &c.HigherAdvert,
		"owner-ignores": &c.OwnerIgnores, "skip-check": &c.SkipCheckAddresses, "check-addresses": &c.CheckAddresses, "member": &c.Member,
	}
	for word, field := range flags {
		*field = *field || w.flag(word)
	}
	c.Preempt = c.Preempt && !w.flag("nopreempt")
	return c
}

// received reads "N from ADDR ..." as a router of configuration c would get it.
func (w words) received(c Config) Received {
	a := c.Advertisement(uint8(w.number("", w.at(0))))
	r := Received{Source: addresses(w.at(2))[0]}
	if w.named["interval"] != "" {
		a.Interval = w.time("interval")
	}
	if w.named["addresses"] != "" {
		a.Addresses = addresses(strings.Split(w.named["addresses"], ",")...)
	}
	if w.named["form"] != "" {
		r.Form = w.form("form")
	}
	r.Advertisement = a
	return r
}
