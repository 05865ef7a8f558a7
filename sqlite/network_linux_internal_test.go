//go:build linux

package sqlite

import "testing"

func TestNetworkFileSystemsAreKnownByTheirMagicNumbers(t *testing.T) {
	t.Parallel()
	for magic, want := range map[uint32]string{
		0x6969: "NFS", 0xff534d42: "SMB", 0xfe534d42: "SMB", 0x517b: "SMB", 0x01021997: "9P", 0x5346414f: "AFS", 0x6b414653: "AFS",
		0x00c36400: "Ceph", 0x0bd00bd0: "Lustre", 0x47504653: "GPFS", //nolint:misspell // it is a name
		0xef53: "", 0x58465342: "", 0x9123683e: "", 0x01021994: "", 0x794c7630: "", 0x2fc12fc1: "", // ext4, XFS, Btrfs, tmpfs, overlayfs, ZFS
		0x65735546: "", // FUSE
	} {
		if name, known := networkByMagic(magic); name != want || known != (want != "") {
			t.Errorf("%#x is %q (%t), and not %q", magic, name, known, want)
		}
	}
}

// The folder of the test is on a disk of the machine, or it could not be run.
func TestTheFileSystemOfAPathIsFound(t *testing.T) {
	t.Parallel()
	for _, path := range []string{t.TempDir(), "/proc/self", "/nowhere"} {
		if name, known := networkFileSystem(path); known {
			t.Errorf("%s is on %s", path, name)
		}
	}
}
