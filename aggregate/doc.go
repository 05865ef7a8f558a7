// Package aggregate loads state from events, decides, and appends what was decided.
//
// An aggregate is a stream, the state that its events lead to, and functions: one that applies an event to the state, and one for each
// decision. None of them knows where events are kept:
//
//	type Account struct{ Balance int }
//
//	func evolve(a Account, e any) Account {
//		switch e := e.(type) {
//		case Deposited:
//			a.Balance += e.Amount
//		case Withdrawn:
//			a.Balance -= e.Amount
//		}
//		return a
//	}
//
//	accounts, err := aggregate.New(aggregate.Config[Account, any]{
//		Events: backend.Events(), Types: types, Category: "account", Evolve: evolve,
//	})
//	_, err = accounts.Update(ctx, "7", func(a Account) ([]any, error) {
//		if a.Balance < 10 {
//			return nil, errTooLittle
//		}
//		return []any{Withdrawn{Amount: 10}}, nil
//	})
//
// [Repository.Update] appends at the version that it has loaded, and decides again when somebody else was first. Snapshots and a cache make
// loading cheaper, and nothing else: the state is the same with them and without.
//
// A [Decision] is made about the events that have some tags, whatever their streams: that a course has a seat left and the student has
// time for it. It is appended on the condition that nothing else has happened that it would have looked at.
package aggregate
