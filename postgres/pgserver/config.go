package pgserver

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"regexp"
	"slices"
)

// The errors of this package that a program may want to tell from others, with errors.Is.
var (
	// ErrNotInstalled: the programs of PostgreSQL were not found. The error says what to install.
	ErrNotInstalled = errors.New("PostgreSQL is not installed")
	// ErrInUse: another program runs a server on the folder.
	ErrInUse = errors.New("another program runs a server on it")
	// ErrOtherVersion: the folder was made by another major version of PostgreSQL than the one that is to open it. Nothing was
	// done to it.
	ErrOtherVersion = errors.New("it was made by another major version of PostgreSQL")
	// ErrStopped: the server was stopped for good.
	ErrStopped = errors.New("the server was stopped")
)

// Config is how to run a server. The zero value is a durable server in a temporary folder.
type Config struct {
	// Dir is the folder that keeps the data between runs; it is made when it is not there, and the folder that it is in must be
	// there, and open to the account that the server runs as. When it is empty, the data is in a temporary folder, which goes with
	// the server.
	Dir string
	// Bin is the folder of the programs initdb and postgres, by default that in ES_POSTGRES_BIN. When both are empty they are looked
	// for; see [Installed].
	Bin string
	// Major is the major version to take of those that are installed, such as 15. By default it is the one that made Dir, and the
	// newest for a new folder.
	Major int
	// Install has PostgreSQL installed by the package manager of the system when it is not there. The program must be root for it;
	// apt-get, apk and dnf are known. It takes as long as the download takes, and starts no server of the system's own.
	Install bool
	// NoSync leaves out every sync to the disk, which makes writing several times as fast. What was committed survives
	// [Server.Kill], and a kill -9 of any process, but not loss of power: that may ruin all data. For tests.
	NoSync bool
	// Settings are parameters of the server by their names in postgresql.conf, such as "max_connections": "200". They are in force
	// for this run and are not kept in Dir. Where to listen and where data is cannot be set.
	Settings map[string]string
	// User is the name of the account that the server runs as, when the program is root; by default the owner of Dir, or else
	// postgres, or else nobody. Without root it is the program's own, and User must be empty.
	User string
	// Logger is told what takes long, which is the installation. It tells nobody by default. What the server itself logs is in
	// [Server.LogFile].
	Logger *slog.Logger
}

var settingName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.]*$`)

// ours are the settings that make the server private and are not for Config.Settings.
func ours() []string {
	return []string{
		"config_file", "data_directory", "external_pid_file", "hba_file", "listen_addresses", "logging_collector", "port",
		"unix_socket_directories", "unix_socket_permissions",
	}
}

func (c Config) validate() error {
	if c.Major < 0 {
		return fmt.Errorf("pgserver: major version is %d; it takes one that is installed, such as 15, or 0 for any", c.Major)
	}
	for _, name := range slices.Sorted(maps.Keys(c.Settings)) {
		switch {
		case !settingName.MatchString(name):
			return fmt.Errorf("pgserver: setting %q is not the name of a parameter, such as max_connections", name)
		case slices.Contains(ours(), name):
			return fmt.Errorf("pgserver: setting %q is what keeps the server private, and cannot be set", name)
		}
	}
	return nil
}

// arguments are the settings as arguments of the server, where they overrule every file. Those that a lost acknowledgement
// would come from are among them, so that nobody's postgresql.conf decides.
func (c Config) arguments() []string {
	settings := map[string]string{"fsync": "on", "full_page_writes": "on", "synchronous_commit": "on"}
	if c.NoSync {
		// synchronous_commit stays on: with off, kill -9 loses the newest transactions, and without fsync it costs next to nothing.
		settings["fsync"], settings["full_page_writes"] = "off", "off"
	}
	if c.Dir == "" {
		// Files in the folder go with the folder. In /dev/shm they would stay when the server is killed and not started again.
		settings["dynamic_shared_memory_type"] = "mmap"
	}
	maps.Copy(settings, c.Settings)
	var arguments []string
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		arguments = append(arguments, "-c", name+"="+settings[name])
	}
	return arguments
}

func (c Config) logger() *slog.Logger {
	if c.Logger == nil {
		return slog.New(slog.DiscardHandler)
	}
	return c.Logger
}
