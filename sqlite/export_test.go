package sqlite

// OnDisk makes a configuration open its file on another file system than the default one, by the name that SQLite knows it by.
func OnDisk(c Config, vfs string) Config {
	c.vfs = vfs
	return c
}
