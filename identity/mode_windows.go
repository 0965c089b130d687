package identity

import "os"

// Windows has no permission bits: access lists guard the files, and those of the
// user's own folders let nobody else in.
const (
	keyFileBits         os.FileMode = 0
	revocationsFileBits os.FileMode = 0
)
