package fsm

import "fmt"

func (op PutTopic) apply(t *transition) (OpResult, *Refusal) {
	if err := op.validate(); err != nil {
		return OpResult{}, refuse(CodeInvalid, "put topic %q: %v", op.Topic, err)
	}
	old, exists := t.state.topics[op.Topic]
	detail := "created, " + count(op.Queues, "queue", "queues")
	switch {
	case exists && (op.Ensure || old.Queues == op.Queues):
		return OpResult{}, nil
	case exists && op.Queues < old.Queues:
		return OpResult{}, refuse(CodeConflict, "topic %s has %d queues, and cannot have fewer: what is in them could not be read any more", op.Topic, old.Queues)
	case exists:
		detail = fmt.Sprintf("%d queues, were %d", op.Queues, old.Queues)
	case len(t.state.topics) >= MaxTopics:
		return OpResult{}, refuse(CodeConflict, "there are %d topics, which is the most", MaxTopics)
	}
	t.state.topics[op.Topic] = &Topic{Name: op.Topic, Queues: op.Queues, Revision: t.index}
	t.record(Change{Topic: op.Topic, Cause: because(op.Cause, detail)})
	return OpResult{}, nil
}

func (op DeleteTopic) apply(t *transition) (OpResult, *Refusal) {
	if _, ok := t.state.topics[op.Topic]; !ok {
		return OpResult{}, refuse(CodeNotFound, "no topic %q", op.Topic)
	}
	delete(t.state.topics, op.Topic)
	t.record(Change{Topic: op.Topic, Cause: because(op.Cause, "deleted")})
	return OpResult{}, nil
}
