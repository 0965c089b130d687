package rolesession

import (
	"crypto/sha256"
	"encoding/base32"
	"regexp"
	"strings"
)

const (
	maxNameLength = 64
	// hashLength is the number of characters of a name's hash: 60 bits, so that
	// nobody finds a second identity with the same one by trying.
	hashLength = 12
	// hashMark stands before the hash. Names seldom hold it, and one that looks
	// as if it had a hash already gets one as well, so that no name which needs
	// no change can be taken for one that was changed.
	hashMark = "="
)

var hashedName = regexp.MustCompile(`=[a-z2-7]{12}$`)

// cleanName makes a session name of 2 to 64 characters of [\w+=,.@-] from any
// text. A text that is such a name already stays as it is; every other text gets
// a hash of the whole of it, so that no two texts make one name.
func cleanName(text string) string {
	if namePattern.MatchString(text) && !hashedName.MatchString(text) {
		return text
	}
	sum := sha256.Sum256([]byte(text))
	hash := strings.ToLower(base32.StdEncoding.EncodeToString(sum[:])[:hashLength])
	kept := strings.Map(func(r rune) rune {
		if r < 0x80 && (r == '_' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("+=,.@-", r)) {
			return r
		}
		return '-'
	}, text)
	if limit := maxNameLength - hashLength - len(hashMark); len(kept) > limit {
		kept = kept[:limit]
	}
	return kept + hashMark + hash
}
