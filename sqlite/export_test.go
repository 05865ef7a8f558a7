package sqlite

// OnDisk makes a configuration open its file on another file system than the default one, by the name that SQLite knows it by.
func OnDisk(c Config, vfs string) Config {
	c.vfs = vfs
	return c
}

// InSmallRuns makes the index have runs of so many events, so that a test with a few of them has many runs, and merges.
func InSmallRuns(c Config, events int64) Config {
	c.runEvents = events
	return c
}

// SinceBoot makes a configuration believe that the system names the time since it was started so; "" is no name.
func SinceBoot(c Config, name string) Config {
	c.boot = func() (string, bool) { return name, name != "" }
	return c
}

// OnNetwork makes a configuration believe that its file is on a network file system of a name; "" is none.
func OnNetwork(c Config, name string) Config {
	c.network = func(string) (string, bool) { return name, name != "" }
	return c
}
