package processor

import (
	"strings"
	"testing"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/memory"
)

// TestTheIntervalIsMeasuredByAClockThatDoesNotJump looks at the reading of the monotonic clock, without which a clock that is set back
// would prolong the interval of what is collected. The times of the outbox have none.
func TestTheIntervalIsMeasuredByAClockThatDoesNotJump(t *testing.T) {
	t.Parallel()
	backend := memory.New()
	p, err := NewBatch(Config{Outbox: backend.Outbox(), Events: backend.Events()}, Flush{})
	if err != nil {
		t.Fatal(err)
	}
	enqueued := es.Timestamp(time.Now().Add(-time.Second))
	p.hand.entries = []es.Entry{{Message: es.NewMessage("a-1", "Happened", nil), Enqueued: enqueued}}
	p.desk.lay(&p.hand, p.hand.every())
	oldest := p.age(&p.hand)
	if !oldest.Equal(enqueued) {
		t.Errorf("collected since %v, want since %v, when it was enqueued", oldest, enqueued)
	}
	for what, since := range map[string]time.Time{"oldest": oldest, "a-1": p.since["a-1"]} {
		if !strings.Contains(since.String(), " m=") {
			t.Errorf("%s: %v has no reading of the monotonic clock", what, since)
		}
	}
}
