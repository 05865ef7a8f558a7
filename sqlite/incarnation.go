package sqlite

import (
	"github.com/google/uuid"

	es "github.com/eventsourcing-go/eventsourcing"
)

// With [Normal], what was acknowledged last may be lost when the system stops, and only then: when a process ends, its writes are with
// the system. So a handle that does not sync writes down, and syncs that, when the system was started that it relies on, and takes it
// away when it is closed, with a last sync. Who opens the file and finds the name of another start gives the store a new incarnation:
// positions that were handed out may be given again.

// bootName is by what the system names the time since it was started. It is not known where there is no such name, or none that is sure to
// be another one after a restart.
func (c Config) bootName() (name string, known bool) {
	if c.boot != nil {
		return c.boot()
	}
	return systemBootName()
}

// noticeLosses gives the namespaces new incarnations if events may have been lost, and writes down that this handle does not sync, if so.
// It is called in the transaction that opens the file.
func (db *DB) noticeLosses(c *conn) error {
	boot, known := db.config.bootName()
	if !known {
		boot = "" // which is none
	}
	lost, err := c.number("SELECT count(*) FROM es_unsynced WHERE boot <> ?", boot)
	if err != nil {
		return err
	}
	if lost > 0 {
		if err := renewAll(c); err != nil {
			return err
		}
		db.config.Logger.Warn("sqlite: the system has stopped while the store was open and not synced; events may be lost, and the store "+
			"has a new incarnation", "path", db.config.Path)
		if err := c.query(nil, "DELETE FROM es_unsynced WHERE boot <> ?", boot); err != nil {
			return err
		}
	}
	if db.config.Synchronous == Full {
		return nil
	}
	if !known {
		return es.Invalidf("synchronous", "is NORMAL, and this system does not tell whether it was started anew, which it takes to notice "+
			"losses; use Full")
	}
	db.unsynced = uuid.New()
	return c.query(nil, "INSERT INTO es_unsynced (handle, boot) VALUES (?, ?)", db.unsynced[:], boot)
}

// settle syncs what this handle has written without, when it is closed, and takes away what noticeLosses has written down. The writer has
// ended.
func (db *DB) settle() error {
	w := db.writer
	if db.unsynced == uuid.Nil || w.broken != nil {
		return nil
	}
	if err := w.turn.acquire(db.config.BusyTimeout); err != nil {
		return err
	}
	defer w.turn.release()
	if err := w.conn.pragma("PRAGMA synchronous=FULL"); err != nil {
		return err
	}
	return w.breakAfter(w.conn.query(nil, "DELETE FROM es_unsynced WHERE handle = ?", db.unsynced[:]))
}

// renewAll gives each namespace a new incarnation. The checkpoints of projections in the same file are as old as its events: they go on.
func renewAll(c *conn) error {
	spaces, err := spaceNumbers(c)
	if err != nil {
		return err
	}
	for _, space := range spaces {
		if err := renew(c, space); err != nil {
			return err
		}
	}
	return nil
}

func renew(c *conn, space int64) error {
	renewed := es.NewID()
	err := c.query(nil, spaced("UPDATE es_progress_$ SET incarnation = ? WHERE incarnation = (SELECT incarnation FROM es_spaces "+
		"WHERE space = $) AND position <= (SELECT ifnull(max(position), 0) FROM es_events_$)", space), renewed[:])
	if err != nil {
		return err
	}
	return c.query(nil, "UPDATE es_spaces SET incarnation = ? WHERE space = ?", renewed[:], space)
}
