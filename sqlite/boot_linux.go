package sqlite

import (
	"os"
	"strings"
)

// systemBootName is the boot ID; see random(4).
func systemBootName() (name string, known bool) {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	name = strings.TrimSpace(string(id))
	return name, err == nil && name != ""
}
