package postgres_test

import (
	"testing"

	"github.com/eventsourcing-go/eventsourcing/estest"
)

func TestMain(m *testing.M) { estest.Main(m, openURL) }
