//go:build unix

package identity

import "os"

// The permission bits that nobody but the owner may have on a key file (its group
// may read it, as volumes of Kubernetes are mounted) and on the revocations.
const (
	keyFileBits         os.FileMode = 0o027
	revocationsFileBits os.FileMode = 0o022
)
