package linux

import (
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// oldForm makes the fence that is pinned look like one of another version.
func (p *fencedPair) oldForm() {
	p.t.Helper()
	p.holder.must(os.Rename(p.fence.dir, filepath.Join(filepath.Dir(p.fence.dir), filepath.Base(p.fence.dir)+"0")))
	p.abandon()
}

// abandon leaves the fence as a killed process does.
func (p *fencedPair) abandon() {
	for i, port := range p.fence.ports {
		port.close()
		delete(p.fence.ports, i)
	}
}

// opened is a fence of some kind.
type opened struct {
	guard func([]netip.Addr) error
	close func()
}

// A fence of another kind or form does not stand in the way of the one in use,
// and what it guarded is shut until that one opens it.
func TestFencesOfOtherKindsAreCleared(t *testing.T) {
	if !mayBPF() {
		return // see TestFence
	}
	for kind, open := range map[string]func(p *fencedPair) (opened, error){
		"ebpf": func(p *fencedPair) (opened, error) {
			p.oldForm()
			f, err := OpenFence(p.kernel, FenceConfig{Dir: p.dir})
			return opened{f.Guard, f.Close}, err
		},
		"nft": func(p *fencedPair) (opened, error) {
			p.abandon()
			f, err := OpenNFT()
			return opened{f.Guard, f.Close}, err
		},
		"none": func(p *fencedPair) (opened, error) {
			p.abandon()
			return opened{nil, func() {}}, nil
		},
	} {
		t.Run(kind, func(t *testing.T) {
			p := newFencedPair(t)
			p.raise()
			p.slot(11)(time.Hour)
			p.open(11, 0)
			p.want("before", true)
			shut := 0
			p.holder.do(func() {
				o, err := open(p)
				if err == nil {
					p.holder.t.Cleanup(func() { p.holder.do(o.close) })
					guard := o.guard
					if guard != nil {
						guard = func(list []netip.Addr) error { shut = len(list); return o.guard(list) }
					}
					err = p.kernel.ClearFences(p.dir, kind, guard)
				}
				if err != nil {
					t.Error(err)
				}
			})
			if kind == "none" {
				p.want("without a fence", true)
				return
			}
			if shut != 2 {
				t.Errorf("%d addresses were shut first", shut)
			}
			if kind == "ebpf" {
				p.want("shut by the fence in use", false)
			}
		})
	}
}

// The other way round: what nf_tables guards does not stay shut behind eBPF.
func TestFenceOfNFTIsCleared(t *testing.T) {
	if !mayBPF() {
		return // see TestFence
	}
	p := newFencedPair(t)
	p.raise()
	p.slot(11)(time.Hour)
	p.open(11, 0)
	var err error
	p.holder.do(func() {
		var f *NFTFence
		if f, err = OpenNFT(); err != nil {
			return
		}
		err = f.Guard(addresses(vip4, vip6))
		f.Close()
	})
	if err != nil {
		t.Fatal(err)
	}
	p.holder.do(func() {
		if !nftThere() {
			t.Error("the fence of nf_tables went with its process")
		}
		err = p.kernel.ClearFences(p.dir, "ebpf", p.fence.Guard)
		if nftThere() {
			t.Error("still there")
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	p.want("shut", false)
	p.open(11, 0)
	p.want("opened again", true)
}
