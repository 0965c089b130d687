package ca

import "io/fs"

// Windows keeps access lists, not modes, and os.Stat invents the mode bits.
// A folder under the user's profile is closed to other users by inheritance.
func modeOf(fs.FileInfo) fs.FileMode  { return 0 }
func foreignOwner(fs.FileInfo) string { return "" }
func readOnlyMount(string) bool       { return false }
func syncFolder(string) error         { return nil }
