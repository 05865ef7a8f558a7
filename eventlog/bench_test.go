package eventlog_test

import (
	"fmt"
	"testing"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/eventlog"
	"github.com/eventsourcing-go/eventsourcing/memory"
)

// BenchmarkLog measures a message from Publish to Ack as BenchmarkPubSub of package memory does: by batch, by the number of groups,
// and by ordering keys. Messages have 256 bytes. An operation is one message appended, and delivered to and acknowledged by each of
// the groups. Append alone is what the store takes of it.
func BenchmarkLog(b *testing.B) {
	for _, size := range []int{1, 256} {
		for _, groups := range []int{0, 1, 10} {
			for _, keys := range []int{1, 1000} {
				name := fmt.Sprintf("batch=%d/groups=%d/keys=%d", size, groups, keys)
				if groups == 0 {
					name = fmt.Sprintf("batch=%d/append_alone/keys=%d", size, keys)
				}
				b.Run(name, func(b *testing.B) { benchmarkLog(b, size, groups, keys, "g") })
			}
		}
	}
	b.Run("batch=256/without_group/keys=1000", func(b *testing.B) { benchmarkLog(b, 256, 1, 1000, "") })
}

func benchmarkLog(b *testing.B, size, groups, keys int, group string) {
	backend := memory.New()
	log, err := eventlog.New(backend, eventlog.Config{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = log.Close() })
	ctx := b.Context()
	subs := make([]es.Subscription, groups)
	for i := range subs {
		name := group
		if name != "" {
			name = fmt.Sprintf("%s%d", group, i)
		}
		if subs[i], err = log.Subscribe(ctx, "orders", es.SubscribeOptions{Group: name}); err != nil {
			b.Fatal(err)
		}
	}
	pubs := make([]es.Publication, size)
	msgs := make([]es.Message, size)
	dst := make([]es.Delivery, size)
	data := make([]byte, 256)
	streams := make([]string, keys)
	for i := range streams {
		streams[i] = fmt.Sprintf("orders-%d", i)
	}
	b.ReportAllocs()
	b.ResetTimer()
	for begin := 0; begin < b.N; begin += size {
		for i := range pubs {
			msgs[i] = *es.NewMessage(streams[(begin+i)%keys], "Noted", data)
			pubs[i] = es.Publication{Topic: "orders", Message: &msgs[i]}
		}
		if err := log.Publish(ctx, pubs...); err != nil {
			b.Fatal(err)
		}
		for _, sub := range subs {
			for left := size; left > 0; {
				n, err := sub.Receive(ctx, dst)
				if err != nil {
					b.Fatal(err)
				}
				if err := sub.Ack(ctx, dst[:n]); err != nil {
					b.Fatal(err)
				}
				left -= n
			}
		}
	}
	if groups > 0 {
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*groups), "ns/delivery")
	}
}
