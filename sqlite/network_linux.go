package sqlite

import "syscall"

// networkFileSystem tells whether a path is on a file system that several machines may have mounted, by its magic number; see
// statfs(2). A file system in user space (FUSE) is not one: the system does not say what is behind it.
func networkFileSystem(path string) (name string, known bool) {
	var stat syscall.Statfs_t
	if syscall.Statfs(path, &stat) != nil {
		return "", false
	}
	return networkByMagic(uint32(stat.Type)) //nolint:gosec // it has 32 bits, in a type that differs between processors
}

// networkByMagic knows the magic numbers of include/uapi/linux/magic.h, and of file systems that are not in the kernel's tree.
func networkByMagic(magic uint32) (name string, known bool) {
	switch magic {
	case 0x6969:
		return "NFS", true
	case 0x517b, 0xfe534d42, 0xff534d42:
		return "SMB", true
	case 0x01021997:
		return "9P", true
	case 0x5346414f, 0x6b414653:
		return "AFS", true
	case 0x00c36400:
		return "Ceph", true
	case 0x0bd00bd0:
		return "Lustre", true //nolint:misspell // that is its name
	case 0x47504653:
		return "GPFS", true
	case 0x73757245:
		return "Coda", true
	case 0x564c:
		return "NCP", true
	case 0x7461636f:
		return "OCFS2", true
	case 0x01161970:
		return "GFS2", true
	case 0x19830326:
		return "BeeGFS", true
	case 0xaad7aaea:
		return "PanFS", true
	case 0xbeefdead:
		return "SNFS", true
	case 0x20030528:
		return "OrangeFS", true
	case 0x786f4256:
		return "a shared folder of VirtualBox", true
	case 0xbacbacbc:
		return "a shared folder of VMware", true
	}
	return "", false
}
