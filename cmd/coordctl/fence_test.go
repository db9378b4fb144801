package main

import (
	"testing"

	pb "holdfast/coordinator/api/holdfastpb"
)

func TestFenceText(t *testing.T) {
	for _, tt := range []struct {
		agent *pb.AgentStatus
		wide  bool
		want  string
	}{
		{&pb.AgentStatus{}, false, "-"},
		{&pb.AgentStatus{Fence: "ebpf", FenceLeftMs: 830, FenceDropped: 12, FenceInterfaces: 2}, false, "ebpf, 830ms left, 12 dropped"},
		{&pb.AgentStatus{Fence: "ebpf", FenceLeftMs: -5, FenceDropped: 12, FenceInterfaces: 2}, true, "ebpf, closed, 12 dropped, on 2 interfaces"},
		{&pb.AgentStatus{Fence: "nft", FenceLeftMs: 1}, false, "nft, 1ms left, 0 dropped"},
		{&pb.AgentStatus{Fence: "none", FenceLeftMs: 830}, false, "none"},
		{&pb.AgentStatus{Fence: "refused"}, false, "self-check failed"},
	} {
		tool := &tool{format: "table"}
		if tt.wide {
			tool.format = "wide"
		}
		if got := tool.fenceText(tt.agent); got != tt.want {
			t.Errorf("%v: %q, want %q", tt.agent, got, tt.want)
		}
	}
}
