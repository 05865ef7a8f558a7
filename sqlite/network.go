package sqlite

// networkOf returns the name of the network file system that a file or folder is on. It is not known when it is on another one, or the
// system does not tell.
func (c Config) networkOf(path string) (name string, known bool) {
	if c.network != nil {
		return c.network(path)
	}
	return networkFileSystem(path)
}
