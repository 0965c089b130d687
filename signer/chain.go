package signer

import (
	"crypto/sha256"
	"strings"
)

// A chain is a sequence of signatures, each covering the one before it,
// beginning with the signature of the request.
type chain struct {
	key       *signingKey
	algorithm string
	head      string // date and scope, as in every string to sign
	prev      string // the last signature in hexadecimal, without padding
	room      []byte
}

func newChain(key *signingKey, algorithm, date string, sc scope, seed string) *chain {
	room := make([]byte, 0, 512)
	room = append(room, '\n')
	room = append(room, date...)
	room = append(room, '\n')
	room = sc.append(room)
	room = append(room, '\n')
	return &chain{key: key, algorithm: algorithm, head: string(room), prev: seed, room: room}
}

// width is the length of a signature in a chunk or trailer: ECDSA signatures
// vary and are padded.
func (c *chain) width() int {
	if c.algorithm == AlgorithmECDSA {
		return maxECDSASignature
	}
	return 64
}

// chunk returns the string to sign of a chunk with this SHA-256.
func (c *chain) chunk(sum *[32]byte) []byte {
	b := c.start("-PAYLOAD")
	b = append(b, emptyHash...)
	b = append(b, '\n')
	b = appendHex(b, sum[:])
	c.room = b
	return b
}

// trailer returns the string to sign of trailers in canonical form.
func (c *chain) trailer(canonical []byte) []byte {
	sum := sha256.Sum256(canonical)
	b := appendHex(c.start("-TRAILER"), sum[:])
	c.room = b
	return b
}

func (c *chain) start(kind string) []byte {
	b := append(c.room[:0], c.algorithm...)
	b = append(b, kind...)
	b = append(b, c.head...)
	b = append(b, c.prev...)
	return append(b, '\n')
}

// verify checks the next signature, as it came, and moves on.
func (c *chain) verify(stringToSign []byte, signature []byte) bool {
	text := string(signature)
	if c.algorithm == AlgorithmECDSA {
		text = strings.TrimRight(text, "*")
	}
	if !isLowerHexString(text) || !c.key.verify(stringToSign, text) {
		return false
	}
	c.prev = text
	return true
}

// sign appends the next signature, padded, and moves on.
func (c *chain) sign(dst, stringToSign []byte) ([]byte, error) {
	start := len(dst)
	dst, err := c.key.sign(dst, stringToSign)
	if err != nil {
		return dst, err
	}
	c.prev = string(dst[start:])
	for len(dst)-start < c.width() {
		dst = append(dst, '*')
	}
	return dst, nil
}

// inbound is the chain of the client's signatures.
func (v *Verified) inbound() *chain {
	return newChain(v.key, v.sig.Algorithm, v.sig.Time.Format(timeFormat), v.sig.scope(), v.sig.signature)
}

// outbound is the chain of ours.
func (s *resigning) outbound() *chain {
	return newChain(s.key, s.sig.Algorithm, s.date, s.scope, s.seed)
}
