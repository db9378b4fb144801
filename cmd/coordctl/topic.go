package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	pb "holdfast/coordinator/api/holdfastpb"
)

func (t *tool) topicCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "topic",
		Short: "Define and list the brokers' topics",
		Args:  exactArgs(),
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(t.topicPutCommand(), t.topicListCommand(), t.topicDeleteCommand())
	return cmd
}

func (t *tool) topicPutCommand() *cobra.Command {
	r := &pb.PutTopicRequest{}
	cmd := &cobra.Command{
		Use:   "put TOPIC --queues N",
		Short: "Create a topic, or give it more queues",
		Long: `Create a topic in all broker groups, each with so many queues, or give it more. It cannot have fewer: what is in
them could not be read any more.`,
		Args:              exactArgs("the name of one topic"),
		ValidArgsFunction: t.completeTopics,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := required(cmd, "queues"); err != nil {
				return err
			}
			r.Topic = args[0]
			reply, err := call(t, cmd.Context(), func(ctx context.Context, op pb.OperatorClient) (*pb.PutTopicReply, error) {
				return op.PutTopic(ctx, r)
			})
			if err != nil {
				return err
			}
			return t.print(reply, func(w io.Writer) { fmt.Fprintf(w, "%s: %s\n", args[0], reply.Change) }, args)
		},
	}
	cmd.Flags().Int32Var(&r.Queues, "queues", 0, "queues in each broker group")
	cmd.Flags().StringVar(&r.Cause, "cause", "", "why, for the audit ring")
	return cmd
}

func (t *tool) topicListCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the topics",
		Args:  exactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return t.repeat(cmd.Context(), func() error {
				reply, err := t.listTopics(cmd.Context())
				if err != nil {
					return err
				}
				var names []string
				rows := []string{row("TOPIC", "QUEUES", "CHANGED AT")}
				for _, topic := range reply.Topics {
					names = append(names, topic.Name)
					rows = append(rows, row(topic.Name, fmt.Sprint(topic.Queues), fmt.Sprint(topic.Revision)))
				}
				return t.print(reply, func(w io.Writer) { columns(w, rows...) }, names)
			})
		},
	}
}

func (t *tool) listTopics(ctx context.Context) (*pb.ListTopicsReply, error) {
	return call(t, ctx, func(ctx context.Context, op pb.OperatorClient) (*pb.ListTopicsReply, error) {
		return op.ListTopics(ctx, &pb.ListTopicsRequest{})
	})
}

func (t *tool) topicDeleteCommand() *cobra.Command {
	var cause string
	cmd := &cobra.Command{
		Use:               "delete TOPIC",
		Short:             "Delete a topic; its messages cannot be read any more",
		Args:              exactArgs("the name of one topic"),
		ValidArgsFunction: t.completeTopics,
		RunE: func(cmd *cobra.Command, args []string) error {
			reply, err := call(t, cmd.Context(), func(ctx context.Context, op pb.OperatorClient) (*pb.DeleteTopicReply, error) {
				return op.DeleteTopic(ctx, &pb.DeleteTopicRequest{Topic: args[0], Cause: cause})
			})
			if err != nil {
				return err
			}
			return t.print(reply, func(w io.Writer) { fmt.Fprintf(w, "%s: deleted\n", args[0]) }, args)
		},
	}
	cmd.Flags().StringVar(&cause, "cause", "", "why, for the audit ring")
	return cmd
}

// completeTopics completes names of topics from the live cluster.
func (t *tool) completeTopics(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	defer t.close()
	reply, err := t.listTopics(cmd.Context())
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveError
	}
	var names []string
	for _, topic := range reply.Topics {
		names = append(names, topic.Name)
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
