package sqlite

import "syscall"

// systemBootName is the UUID of the boot session.
func systemBootName() (name string, known bool) {
	name, err := syscall.Sysctl("kern.bootsessionuuid")
	return name, err == nil && name != ""
}
