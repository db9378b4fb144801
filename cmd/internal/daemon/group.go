package daemon

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sync/errgroup"
)

// ErrStop is what a task returns to stop its whole [Group] without an error.
var ErrStop = errors.New("stop")

// Group runs the tasks of a daemon. The first one that fails stops all others;
// a task that only ends because it was told to does not count as failed.
type Group struct {
	ctx   context.Context
	group *errgroup.Group
}

// NewGroup returns a group whose tasks stop when ctx ends.
func NewGroup(ctx context.Context) *Group {
	group, ctx := errgroup.WithContext(ctx)
	return &Group{ctx: ctx, group: group}
}

// Go runs one task in a goroutine of its own. Its context ends when another
// task has failed or returned [ErrStop], or when the group's context ends. A
// task that returns nil has done its work; the others go on.
func (g *Group) Go(name string, task func(ctx context.Context) error) {
	g.group.Go(func() error {
		err := task(g.ctx)
		if err == nil || g.ctx.Err() != nil && (errors.Is(err, context.Canceled) || errors.Is(err, g.ctx.Err())) {
			return nil
		}
		return fmt.Errorf("run %s: %w", name, err)
	})
}

// Wait blocks until every task has returned, and returns the first error.
func (g *Group) Wait() error {
	if err := g.group.Wait(); !errors.Is(err, ErrStop) {
		return err
	}
	return nil
}
