// Package index finds events: by ID, by stream and version, by category, name and tag. It keeps no truth and knows nothing of SQL;
// what it says follows from the events, and can be made again from them.
//
// # Parts
//
// The newest events are in a [Tail], in memory, in chunks of [ChunkEvents]. [Build] makes a [Run] of what is sealed: sorted, in
// blocks of at most [BlockBytes], never changed. Eight runs of a level become one of the next ([Due], [Merge]), so that an event is
// written once for each level, and there are at most seven runs of each. After that the tail is cut.
//
// A [View] is what a reader has: the runs that his snapshot of the database has, and a [Span] of the tail for what is beyond them.
// Taking a span is atomic with the check that the tail covers it, and a span keeps what it has. A reader whose snapshot is older
// than the last cut adds the events that are missing to a tail of his own, and puts a span of that before the other; [NewView]
// lets no gap pass. Of a span only positions up to its end are seen, so the writer may add and undo beyond it meanwhile.
//
// # Keys
//
// Streams, categories, names and tags are found by 128 bits of SHA-256; IDs are what they are. What is found by a key is therefore
// right for all practical purposes, also when somebody chooses the texts who means harm. Who reads the event checks it anyway.
//
// # Format
//
// A run's entries stand in three sections, sorted by key and then position: IDs, streams, terms (categories, names and tags). Numbers
// are little-endian. A block begins with its type and ends with a CRC-32C over run ID (8 bytes), number (4 bytes) and content.
//
// Keys and numbers that a block has many of stand in columns of entries of the same width, found by number and searched by halves.
// A column of keys has how many there are (2 bytes), how many bytes all of them share at the beginning and how many an entry has
// (1 byte each), the bytes shared, and the entries; bytes that neither has are zeros. A column of numbers has the least
// (8 bytes), how many bytes an entry has (1 byte), and the entries, each the difference from the least.
//
//	leaf of IDs         1, column of keys, column of positions
//	leaf of postings    2, section (1 byte), column of keys, their ends (2 bytes each), bodies
//	directory           3, level (1 byte), column of section and key, columns of positions, versions and blocks
//	filter              4, lines of 64 bytes
//
// A body has the events of a stream or a term, as varints: how many there are; in a stream, the version of the first, the others
// having those that follow; the position of the first less the run's base; then for each 128th event but the first where the
// differences go on behind it (2 bytes) and its position less that of the first (4 bytes); then the differences of positions. A
// list that does not fit goes on in the next leaf under the same key. One whose versions make a jump begins anew, too.
//
// A directory has where the blocks below it begin: those of level 1 are above leaves. It is no more of a key than it takes to
// tell the first entry from the one before, except for a leaf that goes on with a list: then it is key, position and version.
// Filters have directories of their own. Each filter is for some 3,000 keys that follow each other; a key has four bits in each of two
// lines.
//
// The uppermost directories are in the [Run]'s root, with the smallest and the largest ID and a checksum over what the run is. So a
// run whose IDs are all older or newer is passed over without a read, as all of them are for a new UUIDv7; and for other IDs, streams
// and terms that are not there it costs a filter, which a [Cache] mostly has.
package index
