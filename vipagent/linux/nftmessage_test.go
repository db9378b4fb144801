package linux

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// FuzzNFTParse: what the kernel sends is decoded or refused.
func FuzzNFTParse(f *testing.F) {
	e := nftElement{key: "1234", data: "5678", comment: "session 1", left: time.Second}
	f.Add(nftSets()[0].elements(unix.NFT_MSG_NEWSETELEM, []nftElement{e})[0].body)
	f.Add(e.appendTo(nil)[4:])
	for _, c := range nftChains() {
		f.Add(c.message().body)
	}
	for _, r := range nftRules() {
		m, err := r.message()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(m.body)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _ = parseElement(b)
		_, _, _ = parseChain(b)
		_, _, _ = parseRule(b)
		_ = parseUserdata(b)
	})
}

func TestNFTCodec(t *testing.T) {
	e := nftElement{key: "1234", data: "5678", comment: "session 1", left: 1500 * time.Millisecond}
	if got, err := parseElement(e.appendTo(nil)[4:]); err != nil || got != e {
		t.Errorf("%+v, %v", got, err)
	}
	m := nftSets()[0].elements(unix.NFT_MSG_NEWSETELEM, []nftElement{{key: "1234", comment: "x", left: time.Hour}})[0]
	want := nftSets()[0].elements(unix.NFT_MSG_NEWSETELEM, []nftElement{{key: "1234", comment: "x", left: 1234 * time.Millisecond}})[0]
	patchLeft(m, 1234*time.Millisecond+999*time.Microsecond)
	if diff := cmp.Diff(want.body, m.body); diff != "" {
		t.Error(diff)
	}
	for _, c := range nftChains() {
		if got, ours, err := parseChain(c.message().body); err != nil || !ours || got != c {
			t.Errorf("%+v, %v, %v", got, ours, err)
		}
	}
	for _, r := range nftRules() {
		m, err := r.message()
		if err != nil {
			t.Fatal(err)
		}
		if got, ours, err := parseRule(m.body); err != nil || !ours || got.part() != r.part() {
			t.Errorf("%+v, %v, %v", got, ours, err)
		}
	}
}
