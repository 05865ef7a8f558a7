package memory

import (
	"fmt"
	"testing"

	es "github.com/eventsourcing-go/eventsourcing"
)

// BenchmarkPubSub measures a message from Publish to Ack: by batch, by the number of groups, and by ordering keys. Messages
// have 256 bytes. An operation is one message published, and delivered to and acknowledged by each of the groups.
func BenchmarkPubSub(b *testing.B) {
	for _, size := range []int{1, 256} {
		for _, groups := range []int{1, 10} {
			for _, keys := range []int{1, 1000} {
				b.Run(fmt.Sprintf("batch=%d/groups=%d/keys=%d", size, groups, keys), func(b *testing.B) {
					benchmarkPubSub(b, size, groups, keys)
				})
			}
		}
	}
}

func benchmarkPubSub(b *testing.B, size, groups, keys int) {
	ps, subs := benchmarkGroups(b, groups)
	pubs := make([]es.Publication, max(size, keys))
	for i := range pubs {
		pubs[i] = es.ToCategory(es.NewMessage(fmt.Sprintf("orders-%d", i%keys), "Noted", make([]byte, 256)))[0]
	}
	ctx := b.Context()
	dst := make([]es.Delivery, size)
	b.ReportAllocs()
	b.ResetTimer()
	for begin := 0; begin < b.N; begin += size {
		from := begin % (len(pubs) - size + 1)
		if err := ps.Publish(ctx, pubs[from:from+size]...); err != nil {
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
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*groups), "ns/delivery")
}

func benchmarkGroups(b *testing.B, groups int) (*PubSub, []es.Subscription) {
	b.Helper()
	ps, err := NewPubSub(PubSubConfig{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = ps.Close() })
	subs := make([]es.Subscription, groups)
	for i := range subs {
		if subs[i], err = ps.Subscribe(b.Context(), "orders", es.SubscribeOptions{Group: fmt.Sprintf("g%d", i)}); err != nil {
			b.Fatal(err)
		}
	}
	return ps, subs
}

// BenchmarkPubSubConcurrent is the same with the publisher and each group in a goroutine of its own, as in a program.
func BenchmarkPubSubConcurrent(b *testing.B) {
	for _, shape := range [][2]int{{1, 1}, {256, 1}, {256, 10}} {
		size, groups := shape[0], shape[1]
		b.Run(fmt.Sprintf("batch=%d/groups=%d", size, groups), func(b *testing.B) {
			ps, subs := benchmarkGroups(b, groups)
			pubs := make([]es.Publication, size)
			for i := range pubs {
				pubs[i] = es.ToCategory(es.NewMessage(fmt.Sprintf("orders-%d", i), "Noted", make([]byte, 256)))[0]
			}
			total := (b.N + size - 1) / size * size
			ctx := b.Context()
			done := make(chan error, groups)
			b.ReportAllocs()
			b.ResetTimer()
			for _, sub := range subs {
				go func() {
					dst := make([]es.Delivery, size)
					for left := total; left > 0; {
						n, err := sub.Receive(ctx, dst)
						if err == nil {
							err = sub.Ack(ctx, dst[:n])
						}
						if err != nil {
							done <- err
							return
						}
						left -= n
					}
					done <- nil
				}()
			}
			for range total / size {
				if err := ps.Publish(ctx, pubs...); err != nil {
					b.Fatal(err)
				}
			}
			for range subs {
				if err := <-done; err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*groups), "ns/delivery")
		})
	}
}

// BenchmarkPubSubBlockedKey has one message that waits for an hour while the others of its key pile up behind it, up to the
// buffer, and other keys go on: what lies behind a stuck key is not to be looked at again and again.
func BenchmarkPubSubBlockedKey(b *testing.B) {
	const stuck = 100_000
	ps, err := NewPubSub(PubSubConfig{Buffer: 2 * stuck})
	if err != nil {
		b.Fatal(err)
	}
	defer ps.Close()
	ctx := b.Context()
	sub, err := ps.Subscribe(ctx, "orders", es.SubscribeOptions{})
	if err != nil {
		b.Fatal(err)
	}
	dst := make([]es.Delivery, 1)
	publish := func(stream string) {
		if err := ps.Publish(ctx, es.ToCategory(es.NewMessage(stream, "Noted", []byte(`{}`)))...); err != nil {
			b.Fatal(err)
		}
	}
	publish("orders-stuck")
	if _, err := sub.Receive(ctx, dst); err != nil {
		b.Fatal(err)
	}
	for range stuck {
		publish("orders-stuck")
	}
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		publish("orders-free")
		if _, err := sub.Receive(ctx, dst); err != nil {
			b.Fatal(err)
		}
		if err := sub.Ack(ctx, dst); err != nil {
			b.Fatal(err)
		}
	}
}
