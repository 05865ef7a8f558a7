package aggregate_test

import (
	"context"
	"errors"
	"fmt"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/aggregate"
	"github.com/eventsourcing-go/eventsourcing/memory"
)

func ExampleRepository_Update() {
	ctx, backend := context.Background(), memory.New()
	defer func() { _ = backend.Close() }()
	accounts, err := aggregate.New(aggregate.Config[total, any]{
		Events: backend.Events(), Types: accountTypes(), Category: "account", Evolve: evolveTotal,
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	done, err := accounts.Update(ctx, "7", func(t total) ([]any, error) {
		if t.Balance > 0 {
			return nil, errors.New("there is enough in it")
		}
		return []any{deposited{10}}, nil
	})
	fmt.Println(done.State.Balance, "at version", done.Version, err)
	// Output: 10 at version 1 <nil>
}

func ExampleDecision_Decide() {
	ctx, backend := context.Background(), memory.New()
	defer func() { _ = backend.Close() }()
	types := es.NewTypes()
	es.Register[enrolled](types, "Enrolled")
	seats, err := aggregate.NewDecision(aggregate.DecisionConfig[int, enrolled]{
		Events: backend.Events(), Types: types, Evolve: func(taken int, _ enrolled) int { return taken + 1 },
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	course := []es.Criterion{{Tags: []string{"course:go-101"}}}
	for _, student := range []string{"Ann", "Bob"} {
		_, err := seats.Decide(ctx, course, func(taken int) ([]aggregate.Write, error) {
			if taken == 1 {
				return nil, errFull
			}
			return []aggregate.Write{aggregate.To("student-"+student, enrolled{"go-101", student})}, nil
		})
		fmt.Println(student, err)
	}
	// Output:
	// Ann <nil>
	// Bob full
}
