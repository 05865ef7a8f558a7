// Package powerloss is a disk in memory for tests of code that trusts SQLite, a disk whose power can be cut at any moment, and
// that can be full, broken or read-only.
//
// A [Disk] is a file system of SQLite (a "VFS", see https://www.sqlite.org/vfs.html) of its own, with a name of its own:
//
//	disk := powerloss.NewDisk(t, powerloss.Config{})
//	conn, err := sqlite.OpenConn(disk.URI("items.db"), sqlite.OpenReadWrite|sqlite.OpenCreate|sqlite.OpenWAL|sqlite.OpenURI)
//
// It serves any number of connections of one process, concurrently, in every journal mode, WAL with its locks and its shared memory
// included. It does to files what SQLite's file system for Unix does to them, the syncs of the folder included.
//
// # Loss of power
//
// The disk remembers every write and every sync in their order. Each of them is a moment; [Disk.Moment] is the last one. [Disk.CutAt]
// returns another disk: what one finds after the power was lost at that moment.
//
//   - What was synced is there.
//   - Of what was not, any subset is there: a later write without an earlier one, some sectors of a write without the others, a
//     file that grew without what was written into it.
//   - A file that was created or deleted is so for sure when its folder was synced since, and may be so before.
//   - After a sync that failed, nobody knows. What was to be synced may be lost even if the next sync succeeds, as on Linux (see
//     Rebello et al., "Can Applications Recover from fsync Failures?", USENIX ATC 2020).
//
// A sector is written whole or not at all, and a write does not harm the bytes beside it; SQLite relies on both (see
// https://www.sqlite.org/psow.html). [Disk.Kill] is the milder accident: the program dies, and the system lives. Then everything
// that was written is there.
//
// # Faults
//
// [Disk.Inject] has reads, writes, syncs and the like fail; [Disk.Fill] leaves no room; [Disk.Protect] takes the right to write away;
// [Disk.Flip], [Disk.Shorten], [Disk.Put] and [Disk.Remove] damage a file. [Disk.Heal] ends the faults, but not the damage.
// [Disk.Hold] stops those who write or sync at a gate, until the test opens it. [Disk.Counts] tells how many writes and syncs there
// were.
package powerloss
