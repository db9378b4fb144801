package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"holdfast/coordinator/api/dial"
	pb "holdfast/coordinator/api/holdfastpb"
)

func (t *tool) eventsCommand() *cobra.Command {
	var from uint64
	var limit int32
	cmd := &cobra.Command{
		Use:   "events",
		Short: "List what changed and why; with --watch go on as it happens",
		Long: `List the audit ring: the last 1,000 changes of the replicated state, each with its Raft index, its author
and its cause. --from INDEX resumes where an earlier listing ended. With --watch it goes on until
interrupted, and through the loss of a coordinator.`,
		Args: exactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return t.events(cmd.Context(), &pb.EventsRequest{FromIndex: from, Limit: limit, Follow: t.watch > 0})
		},
	}
	cmd.Flags().Uint64Var(&from, "from", 0, "first Raft index to show")
	cmd.Flags().Int32VarP(&limit, "limit", "n", 20, "show only the newest so many at first (0: all)")
	return cmd
}

func (t *tool) events(ctx context.Context, r *pb.EventsRequest) error {
	t.watching = r.Follow
	if t.format == "table" || t.format == "wide" {
		fmt.Fprintf(t.out, eventFormat, "INDEX", "TIME", "KIND", "WHAT", "BY: CAUSE")
	}
	for {
		err := t.streamEvents(ctx, r)
		if !r.Follow || ctx.Err() != nil {
			if ctx.Err() != nil && r.Follow {
				return nil
			}
			return err
		}
		fmt.Fprintln(t.talk, "coordctl: stream ended, trying again:", explainError(err))
		t.close()
		t.conn = nil
		r.Limit = 0 // resume from where it ended, whole
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(300 * time.Millisecond):
		}
	}
}

// streamEvents prints one stream; r.FromIndex moves on with what was printed.
func (t *tool) streamEvents(ctx context.Context, r *pb.EventsRequest) error {
	op, err := t.connect(ctx)
	if err != nil {
		return err
	}
	if !r.Follow {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, t.timeout)
		defer cancel()
	}
	stream, err := op.Events(dial.WithActor(ctx), r)
	if err != nil {
		return err
	}
	for {
		e, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		r.FromIndex = e.Index + 1
		if err := t.print(e, func(w io.Writer) {
			fmt.Fprintf(w, eventFormat, fmt.Sprint(e.Index), time.Unix(0, e.AtUnixNs).Format("15:04:05.000"), e.Kind, eventSubject(e), eventCause(e))
		}, []string{fmt.Sprint(e.Index)}); err != nil {
			return err
		}
	}
}

const eventFormat = "%-8s  %-12s  %-13s  %-32s  %s\n"

// eventSubject is what an event is about.
func eventSubject(e *pb.Event) string {
	s := e.Set
	switch {
	case e.Group != "":
		s = "group " + e.Group
	case e.Topic != "":
		s = "topic " + e.Topic
	}
	where := e.Host
	if e.Broker != "" {
		where = e.Broker
	}
	if where != "" {
		if s != "" {
			s += " "
		}
		s += "on " + where
	}
	if e.Epoch != 0 {
		s += fmt.Sprintf(" epoch %d", e.Epoch)
	} else if e.Session != 0 && e.Set == "" && e.Group == "" {
		s += fmt.Sprintf(" session %d", e.Session)
	}
	return s
}

func eventCause(e *pb.Event) string {
	if e.Cause == "" {
		return e.Actor
	}
	return e.Actor + ": " + e.Cause
}

// eventRow is an event in a table of another screen.
func eventRow(e *pb.Event) string {
	return row("  "+since(e.AtUnixNs), fmt.Sprint(e.Index), e.Kind, eventSubject(e), eventCause(e))
}
