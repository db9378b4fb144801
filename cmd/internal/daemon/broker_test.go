package daemon

import (
	"strings"
	"testing"
)

const minimalBroker = `name: b1
group: g
bind: 192.0.2.31
seeds: [192.0.2.11:7950]
gossip: {keys: [bm90IGEga2V5LCBtYWtlIG9uZSBvZiB5b3VyIG93biE=]}
tls: off
`

// TestBrokerProblems: each wrong value is named with its line and what to do.
func TestBrokerProblems(t *testing.T) {
	if _, _, err := BrokerFile().Parse("b.yaml", strings.NewReader(minimalBroker)); err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{
		"group: ''":                              "group is missing",
		"commitlog: {flush: fsync}":              `commitlog.flush is "fsync", must be one of`,
		"commitlog: {segment: 1}":                "commitlog.segment must be a size such as 64MiB or 1GiB",
		"commitlog: {segment: 1KiB}":             "commitlog.segment is 1KiB, must be 1MiB to 4GiB",
		"commitlog: {segment: 9999999999999TiB}": "commitlog.segment must be a size",
		"retention: {size: 1GiB}":                "retention.size is 1GiB, must be 0B or at least two segments (2GiB)",
		"retention: {age: 1s}":                   "retention.age is 1s, must be",
		"topics: {queues: 0}":                    "topics.queues is 0, must be 1 to 1024",
		"renew: 900ms":                           "renew must be at most ttl/3",
		"clients: {port: 7955}":                  "clients.port and replication.port are both 7955",
		"replication: {lag: 1ms}":                "replication.lag is 1ms, must be",
	} {
		_, _, err := BrokerFile().Parse("b.yaml", strings.NewReader(strings.Replace(minimalBroker, "group: g\n", "group: g\n"+text+"\n", 1)))
		if text == "group: ''" {
			_, _, err = BrokerFile().Parse("b.yaml", strings.NewReader(strings.Replace(minimalBroker, "group: g", text, 1)))
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

func TestSize(t *testing.T) {
	for text, want := range map[string]Size{"0B": 0, "17B": 17, "1KiB": 1024, "3MiB": 3 << 20, "5GiB": 5 << 30, "2TiB": 2 << 40} {
		var s Size
		if err := s.UnmarshalText([]byte(text)); err != nil || s != want || s.String() != text {
			t.Errorf("%s: %d %s %v", text, s, s, err)
		}
	}
	for _, text := range []string{"", "B", "1", "-1B", "1kb", "1.5GiB", "9223372036854775807TiB"} {
		var s Size
		if err := s.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q is read as %d", text, s)
		}
	}
}
