package eventlog

import (
	"fmt"
	"log/slog"
	"os"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
)

// The defaults of [Config], and its bounds.
const (
	defaultModel         = "eventlog"
	defaultPartitions    = 16
	defaultWindow        = 256
	defaultReadAhead     = 1024
	defaultLease         = 15 * time.Second
	defaultDeliveryLease = 30 * time.Second

	maxPartitions = 1024
	maxWindow     = 1 << indexBits / maxPartitions // so that a receipt has room for the number of its parcel
	maxModelBytes = 128                            // so that the names of leases, which begin with it, fit
)

// Config is how to open a log. The zero value is ready to use.
type Config struct {
	// Model is the read model that the groups are kept in; "eventlog" by default, and 128 bytes at the most. Logs with different
	// models on one backend have the same messages and different groups.
	Model string
	// Partitions is how many partitions a new group is cut into, and so how many processes can share it; 16 by default, and 1 to
	// 1,024. A group keeps the number that it began with.
	Partitions int
	// Window is how many messages of one partition may be in memory and not handled; 256 by default, and 16,384 at the most. At
	// this bound the partition is not read any further, so that a key that is stuck costs the progress of its partition, and never
	// memory.
	Window int
	// ReadAhead is how many messages a subscription reads before somebody asks for them; 1,024 by default.
	ReadAhead int
	// Lease is how long a member keeps its partitions without a sign of life; 15 seconds by default. After a crash the partitions
	// wait for its end. It is renewed after a third of it.
	Lease time.Duration
	// DeliveryLease is how long a delivery may stay unanswered, where a subscription does not say; 30 seconds by default.
	DeliveryLease time.Duration
	// Rebalance is how often members look who else is there, to share the partitions anew; a quarter of the lease by default, and
	// 1 second at the most.
	Rebalance time.Duration
	// Member is what this process is called where operators look; the name of the host and the number of the process by default.
	Member string
	// Logger is told of leases that were lost, of partitions that were taken over from members that died, and of state that could
	// not be read; nothing by default.
	Logger *slog.Logger
}

func (c Config) withDefaults() Config {
	if c.Model == "" {
		c.Model = defaultModel
	}
	if c.Partitions == 0 {
		c.Partitions = defaultPartitions
	}
	if c.Window == 0 {
		c.Window = defaultWindow
	}
	if c.ReadAhead == 0 {
		c.ReadAhead = defaultReadAhead
	}
	if c.Lease == 0 {
		c.Lease = defaultLease
	}
	if c.DeliveryLease == 0 {
		c.DeliveryLease = defaultDeliveryLease
	}
	if c.Rebalance == 0 {
		c.Rebalance = min(max(c.Lease/4, time.Millisecond), time.Second)
	}
	if c.Member == "" {
		c.Member = processName()
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

// processName tells operators which process it is.
func processName() string {
	host, err := os.Hostname()
	if err != nil || es.ValidateName("host", host) != nil {
		host = "unknown"
	}
	const room = 200 // for a name that is too long, and the number behind it
	return fmt.Sprintf("%.*s:%d", room, host, os.Getpid())
}

func (c Config) validate() error {
	if err := es.ValidateName("model", c.Model); err != nil {
		return err
	}
	if err := es.ValidateName("member", c.Member); err != nil {
		return err
	}
	switch {
	case len(c.Model) > maxModelBytes:
		return es.Invalidf("model", "has %d bytes; at most %d are allowed, because names of leases begin with it",
			len(c.Model), maxModelBytes)
	case c.Partitions < 1 || c.Partitions > maxPartitions:
		return es.Invalidf("partitions", "are %d; a group takes 1 to %d", c.Partitions, maxPartitions)
	case c.Window < 1 || c.Window > maxWindow:
		return es.Invalidf("window", "is %d messages; it takes 1 to %d", c.Window, maxWindow)
	case c.ReadAhead < 1:
		return es.Invalidf("read-ahead", "is %d messages; it takes 1 or more", c.ReadAhead)
	case c.Lease < time.Millisecond:
		return es.Invalidf("lease", "is %v; it takes 1ms or more", c.Lease)
	case c.DeliveryLease < 0:
		return es.Invalidf("delivery lease", "is %v; it takes a duration above 0", c.DeliveryLease)
	case c.Rebalance < 0 || c.Rebalance > c.Lease:
		return es.Invalidf("rebalance interval", "is %v; it takes a duration above 0, and no more than the lease of %v",
			c.Rebalance, c.Lease)
	}
	return nil
}
