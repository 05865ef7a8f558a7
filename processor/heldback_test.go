package processor_test

import (
	"testing"
	"testing/synctest"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/processor"
)

// TestWhatIsHeldBackForEverDoesNotMakeItSpin has a publisher that never gets to one stream. That is no reason to give it up, none to
// ask all the time, and none to keep others waiting.
func TestWhatIsHeldBackForEverDoesNotMakeItSpin(t *testing.T) {
	t.Parallel()
	for name, begin := range map[string]func(c processor.Config) (es.Component, error){
		"at least once": func(c processor.Config) (es.Component, error) { return processor.NewAtLeastOnce(c) },
		"batch": func(c processor.Config) (es.Component, error) {
			c.Retry.Attempts = 0
			return processor.NewBatch(c, processor.Flush{Size: 1})
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(b *bench) {
				b.publisher.fail = func(m *es.Message) error {
					if m.Stream == "a-1" {
						return es.ErrHeldBack
					}
					return nil
				}
				b.enqueue("a-1/1", "a-1/2")
				b.run(begin(b.config))
				const minutes = 10
				for range minutes {
					time.Sleep(time.Minute)
					begin := time.Now()
					b.enqueue("b-1/1")
					synctest.Wait()
					if passed := time.Since(begin); passed != 0 {
						b.Errorf("another stream waited for %v", passed)
					}
				}
				if n := len(of("b-1", b.publisher.published())); n != minutes {
					b.Errorf("%d messages of another stream are published, want %d", n, minutes)
				}
				b.publisher.mu.Lock()
				calls := b.publisher.calls
				b.publisher.mu.Unlock()
				if calls > 200 {
					b.Errorf("%d calls in %d minutes", calls, minutes)
				}
				if s := b.stats(); s.Dead != 0 || s.Depth != 2 {
					b.Errorf("stats are %+v", s)
				}
			})
		})
	}
}
