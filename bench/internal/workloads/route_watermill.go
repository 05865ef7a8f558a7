package workloads

import (
	"context"
	"errors"
	"math"
	"strconv"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/message/router/middleware"

	"github.com/eventsourcing-go/eventsourcing/bench/internal/measure"
)

const watermillPayloadKey = "Watermill, default dedupe key"

// watermillChain says what is around the handler of Watermill's router.
type watermillChain struct {
	fourOfThem bool
	// payloadKey leaves the deduplicator the key that it has by default.
	payloadKey bool
}

// watermillRouters are Watermill's router fed in two ways, and with its default key where there is a deduplicator.
func watermillRouters(chain watermillChain) []measure.Contender {
	with := "message.Router with NopLogger, "
	if chain.fourOfThem {
		with += "CorrelationID, Retry, Recoverer, Deduplicator with the message's UUID as its key, "
	}
	contenders := []measure.Contender{
		{
			Name: watermillInOrder, Run: watermillRouting(chain, feedInTurn),
			How: with + "each message sent when the one before it was acknowledged, as its Kafka and SQL subscribers do: this keeps the order",
		},
		{
			Name: watermillAsIs, Run: watermillRouting(chain, feedAtOnce), Aside: true,
			How: with + "sent without waiting: a goroutine for each message, which does not keep the order",
		},
	}
	if chain.fourOfThem {
		chain.payloadKey = true
		contenders = append(contenders, measure.Contender{
			Name: watermillPayloadKey, Run: watermillRouting(chain, feedInTurn), Aside: true,
			How: "the same in turn, with the deduplicator's default key, a checksum of the payload, and with messages of one stream that " +
				"have equal payloads: all but the first are taken for duplicates, acknowledged, and never handled",
		})
	}
	return contenders
}

func (c watermillChain) addTo(r *message.Router) error {
	if !c.fourOfThem {
		return nil
	}
	seen, err := middleware.NewMapExpiringKeyRepository(time.Minute)
	if err != nil {
		return err
	}
	dedupe := &middleware.Deduplicator{Repository: seen, Timeout: time.Minute}
	if !c.payloadKey {
		dedupe.KeyFactory = func(m *message.Message) (string, error) { return m.UUID, nil }
	}
	r.AddMiddleware(
		middleware.CorrelationID,
		middleware.Retry{MaxRetries: 4, InitialInterval: 100 * time.Millisecond, MaxInterval: time.Minute, Multiplier: 2}.Middleware,
		middleware.Recoverer,
		dedupe.Middleware,
	)
	return nil
}

// message makes the i-th message. With the payload as the key, those of one stream say the same, and have their number in their
// metadata.
func (c watermillChain) message(i uint64) *message.Message {
	m := newWatermillMessage(i)
	if c.payloadKey {
		putNumber(m.Payload, i%streamCount)
		m.Metadata.Set("number", strconv.FormatUint(i, 10))
	}
	return m
}

func (c watermillChain) number(m *message.Message) uint64 {
	if !c.payloadKey {
		return numberOf(m.Payload)
	}
	i, err := strconv.ParseUint(m.Metadata.Get("number"), 10, 64)
	if err != nil {
		return math.MaxUint64 // nobody sent it
	}
	return i
}

// watermillFeed is a subscription of Watermill that costs as little as there can be. Who feeds it closes it, when all is sent: the
// router, when it is closed, cancels the subscription's context as well, and on a busy machine does not always go on to close it.
type watermillFeed struct {
	output chan *message.Message
	once   sync.Once
}

func (f *watermillFeed) Subscribe(context.Context, string) (<-chan *message.Message, error) {
	return f.output, nil
}

func (f *watermillFeed) Close() error {
	f.once.Do(func() { close(f.output) })
	return nil
}

// feeding sends messages and returns when they are all acknowledged.
type feeding func(output chan<- *message.Message, messages []*message.Message)

func feedInTurn(output chan<- *message.Message, messages []*message.Message) {
	for _, m := range messages {
		output <- m
		<-m.Acked()
	}
}

func feedAtOnce(output chan<- *message.Message, messages []*message.Message) {
	for _, m := range messages {
		output <- m
	}
	for _, m := range messages {
		<-m.Acked()
	}
}

func watermillRouting(chain watermillChain, send feeding) func(context.Context, int) (measure.Result, error) {
	return func(ctx context.Context, n int) (measure.Result, error) {
		r, err := message.NewRouter(message.RouterConfig{}, watermill.NopLogger{})
		if err != nil {
			return measure.Result{}, err
		}
		if err := chain.addTo(r); err != nil {
			return measure.Result{}, err
		}
		source := &watermillFeed{output: make(chan *message.Message)}
		var mu sync.Mutex // handlers run beside each other
		ledger := measure.NewLedger(n, streamCount)
		r.AddConsumerHandler(topic, topic, source, func(m *message.Message) error {
			mu.Lock()
			defer mu.Unlock()
			ledger.Take(chain.number(m))
			return nil
		})
		ended := make(chan error, 1)
		go func() { ended <- r.Run(ctx) }()
		select {
		case <-r.Running():
		case err := <-ended:
			return measure.Result{}, err
		}

		// A message of Watermill is used once, and making it is left out of the time, as it is for the others.
		const atATime = 1024
		var watch measure.Stopwatch
		for at := 0; at < n; at += atATime {
			messages := make([]*message.Message, min(atATime, n-at))
			for i := range messages {
				messages[i] = chain.message(uint64(at + i))
			}
			watch.Start()
			send(source.output, messages)
			watch.Stop()
		}
		if err := errors.Join(source.Close(), r.Close()); err != nil {
			return measure.Result{}, err
		}
		if err := <-ended; err != nil {
			return measure.Result{}, err
		}
		return watch.Result(ledger.Close()), nil
	}
}
