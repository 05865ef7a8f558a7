package filestore

import (
	"bytes"
	"encoding/binary"
	"encoding/gob"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"syscall"
	"time"

	"github.com/google/uuid"

	es "github.com/eventsourcing-go/eventsourcing"
)

// operation is an entry of the log: the incarnation, which is the first, or one of the others.
type operation struct {
	Incarnation uuid.UUID
	Time        time.Time

	Appends  []es.Append
	Truncate string
	Before   int64
	Delete   string
	How      es.Deletion
	Erase    *es.Erasure
}

// frameBytes is what stands before each entry: its length and its CRC-32, four bytes each.
const frameBytes = 8

// log is the file, and how far it was read.
type log struct {
	file   *os.File
	offset int64
	locked lockKind
}

// lockKind is how the file is locked.
type lockKind int

const (
	unlocked  lockKind = syscall.LOCK_UN
	shared    lockKind = syscall.LOCK_SH
	exclusive lockKind = syscall.LOCK_EX
)

func openLog(path string) (*log, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	return &log{file: file, locked: unlocked}, nil
}

func (l *log) close() error { return l.file.Close() }

// lock waits for the lock of the file. The kernel gives it back when the process dies.
func (l *log) lock(kind lockKind) error {
	for {
		err := syscall.Flock(int(l.file.Fd()), int(kind))
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("lock %s: %w", l.file.Name(), err)
		}
		l.locked = kind
		return nil
	}
}

func (l *log) unlock() { _ = l.lock(unlocked) } // it cannot fail for a file that is open

// more tells whether there is something behind what was read.
func (l *log) more() (bool, error) {
	info, err := l.file.Stat()
	if err != nil {
		return false, err
	}
	return info.Size() > l.offset, nil
}

// next reads the next entry, and tells whether there is one. What was cut off by the death of its writer was never
// acknowledged; whoever may write takes it away.
func (l *log) next() (operation, bool, error) {
	info, err := l.file.Stat()
	if err != nil {
		return operation{}, false, err
	}
	left := info.Size() - l.offset
	if left <= 0 {
		return operation{}, false, nil
	}
	var frame [frameBytes]byte
	if left < frameBytes {
		return operation{}, false, l.cut()
	}
	if _, err := l.file.ReadAt(frame[:], l.offset); err != nil {
		return operation{}, false, fmt.Errorf("read %s: %w", l.file.Name(), err)
	}
	length := int64(binary.BigEndian.Uint32(frame[:4]))
	if left-frameBytes < length {
		return operation{}, false, l.cut()
	}
	body := make([]byte, length)
	if _, err := l.file.ReadAt(body, l.offset+frameBytes); err != nil {
		return operation{}, false, fmt.Errorf("read %s: %w", l.file.Name(), err)
	}
	if crc32.ChecksumIEEE(body) != binary.BigEndian.Uint32(frame[4:]) {
		return operation{}, false, fmt.Errorf("%s is damaged at byte %d", l.file.Name(), l.offset)
	}
	var op operation
	if err := gob.NewDecoder(bytes.NewReader(body)).Decode(&op); err != nil {
		return operation{}, false, fmt.Errorf("decode the entry at byte %d of %s: %w", l.offset, l.file.Name(), err)
	}
	l.offset += frameBytes + length
	return op, true, nil
}

// cut takes away the half of an entry at the end.
func (l *log) cut() error {
	if l.locked != exclusive {
		return nil
	}
	return l.file.Truncate(l.offset)
}

// write appends an entry and syncs. The caller has read everything before it, under the exclusive lock. When it fails the
// entry is taken away again; when that fails too, the log is what it is, and the outcome unknown.
func (l *log) write(op operation) error {
	var entry bytes.Buffer
	entry.Write(make([]byte, frameBytes))
	if err := gob.NewEncoder(&entry).Encode(op); err != nil {
		return fmt.Errorf("encode an entry: %w", err)
	}
	bytes := entry.Bytes()
	body := bytes[frameBytes:]
	binary.BigEndian.PutUint32(bytes[:4], uint32(len(body))) //nolint:gosec // bounded by the limits of an append
	binary.BigEndian.PutUint32(bytes[4:], crc32.ChecksumIEEE(body))
	_, err := l.file.WriteAt(bytes, l.offset)
	if err == nil {
		err = l.file.Sync()
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write to %s: %w", l.file.Name(), err), l.cut())
	}
	return nil
}
