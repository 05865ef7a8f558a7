package powerloss

// Counts is what was done to a file, or to all of a disk. What failed is not counted.
type Counts struct {
	// Reads is how often the file was read.
	Reads int
	// Writes is how often it was written to.
	Writes int
	// Bytes is how many bytes were written.
	Bytes int64
	// Syncs is how often it was synced.
	Syncs int
	// FolderSyncs is how often its folder was synced on behalf of the file. SQLite does so when it has deleted a journal, and at
	// the first sync of a journal or a write-ahead log by a connection that may have created it.
	FolderSyncs int
}

// Since is what was done since an earlier count.
func (c Counts) Since(before Counts) Counts {
	return Counts{
		Reads:       c.Reads - before.Reads,
		Writes:      c.Writes - before.Writes,
		Bytes:       c.Bytes - before.Bytes,
		Syncs:       c.Syncs - before.Syncs,
		FolderSyncs: c.FolderSyncs - before.FolderSyncs,
	}
}

// Counts returns what was done to the file of a name, whether it is still there or not. The write-ahead log of items.db has the
// name items.db-wal.
func (d *Disk) Counts(file string) Counts {
	d.mu.Lock()
	defer d.mu.Unlock()
	return *d.count(file)
}

// TotalCounts returns what was done to all files together. Temporary files are not counted.
func (d *Disk) TotalCounts() Counts {
	d.mu.Lock()
	defer d.mu.Unlock()
	var all Counts
	for _, c := range d.counts {
		all.Reads += c.Reads
		all.Writes += c.Writes
		all.Bytes += c.Bytes
		all.Syncs += c.Syncs
		all.FolderSyncs += c.FolderSyncs
	}
	return all
}

// count returns the counts of a name, to be counted up. The caller holds the lock.
func (d *Disk) count(file string) *Counts {
	if file == "" {
		return new(Counts) // a temporary file
	}
	c := d.counts[file]
	if c == nil {
		c = new(Counts)
		d.counts[file] = c
	}
	return c
}
