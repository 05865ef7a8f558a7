package howto_test

import (
	"context"
	"errors"
	"fmt"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/memory"
)

func Example_editStreams() {
	run(editStreams)
	// Output:
	// truncated: versions 2 3
	// erased: "" by audit-1: true
	// deleted: versions
	// anew: version 4
	// closed: the stream takes no more
}

func editStreams(ctx context.Context) error {
	backend := memory.New()
	defer backend.Close()
	store := backend.Events()
	for _, name := range []string{"AddressChanged", "AddressChanged", "AddressChanged"} {
		m := es.NewMessage("customer-1", name, []byte(`{"street":"Elm Street"}`))
		if _, err := store.Append(ctx, es.AppendTo(m.Stream, es.Any, m)); err != nil {
			return err
		}
	}

	if !backend.Capabilities().Edits {
		return errors.New("this backend cannot take events out again")
	}

	if err := store.Truncate(ctx, "customer-1", 2); err != nil { // hides what is below version 2
		return err
	}
	if err := showVersions(ctx, store, "truncated: versions"); err != nil {
		return err
	}

	audit := es.NewMessage("audit-1", "CustomerErased", []byte(`{"by":"Dana","customer":"1"}`))
	_, err := store.Erase(ctx, es.Erasure{Stream: "customer-1", Versions: []int64{2, 3}, Audit: audit})
	if err != nil {
		return err
	}
	for m, err := range store.Read(ctx, es.Query{Stream: "customer-1", Limit: 1}) {
		if err != nil {
			return err
		}
		fmt.Printf("erased: %q by audit-1: %t\n", m.Data, m.Metadata[es.MetadataErased] == audit.ID.String())
	}

	if err := store.Delete(ctx, "customer-1", es.SoftDelete); err != nil {
		return err
	}
	if err := showVersions(ctx, store, "deleted: versions"); err != nil {
		return err
	}
	back := es.NewMessage("customer-1", "CustomerCameBack", []byte(`{}`))
	appended, err := store.Append(ctx, es.AppendTo("customer-1", es.NoStream, back)) // for NoStream it is empty
	if err != nil {
		return err
	}
	fmt.Println("anew: version", appended.Places[0].Version)

	if err := store.Delete(ctx, "customer-1", es.Tombstone); err != nil {
		return err
	}
	again := es.NewMessage("customer-1", "CustomerCameBack", []byte(`{}`))
	_, err = store.Append(ctx, es.AppendTo("customer-1", es.Any, again))
	if errors.Is(err, es.ErrStreamDeleted) {
		fmt.Println("closed: the stream takes no more")
	}
	return nil
}

// showVersions prints what a reader sees of the stream.
func showVersions(ctx context.Context, store es.EventStore, text string) error {
	for m, err := range store.Read(ctx, es.Query{Stream: "customer-1"}) {
		if err != nil {
			return err
		}
		text = fmt.Sprint(text, " ", m.Version)
	}
	fmt.Println(text)
	return nil
}
