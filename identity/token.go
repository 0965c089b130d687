package identity

import (
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/chacha20poly1305"
)

// A session token is
//
//	"CS1." base64url( key id [4] | nonce [24] | XChaCha20-Poly1305 ciphertext and tag )
//
// with "CS1." and the key id as additional data. A nonce of 192 random bits
// leaves a collision improbable (2^-64) after 2^64 tokens under one key, so no
// counter has to be kept between processes. The access key id and the secret
// are HKDF outputs of the same key over the nonce (RFC 5869), so a token stands
// for one pair only, and none of the three can be altered alone.
const (
	tokenPrefix = "CS1."
	keyIDSize   = 4
	nonceSize   = chacha20poly1305.NonceSizeX
	headSize    = keyIDSize + nonceSize
	// maxSealed is the largest sealed record whose token is within MaxTokenLength.
	maxSealed = (MaxTokenLength - len(tokenPrefix)) / 4 * 3
	maxRecord = maxSealed - headSize - chacha20poly1305.Overhead
)

// strictBase64 refuses non-zero padding bits; line breaks, which the decoder
// would skip, are refused before it is called.
var strictBase64 = base64.RawURLEncoding.Strict()

var base32Alphabet = base32.StdEncoding.WithPadding(base32.NoPadding)

var errBadToken = errors.New("identity: bad session token")

// sealer seals and opens tokens with one sealing key.
type sealer struct {
	id         [keyIDSize]byte
	additional []byte // what a token's tag binds beside the record: prefix and key id
	prk        []byte // HKDF pseudorandom key
	aead       cipher.AEAD
}

func newSealer(secret []byte) (*sealer, error) {
	prk, err := hkdf.Extract(sha256.New, secret, []byte("countersign sealing key v1"))
	if err != nil {
		return nil, err
	}
	id, err := hkdf.Expand(sha256.New, prk, "key id", keyIDSize)
	if err != nil {
		return nil, err
	}
	key, err := hkdf.Expand(sha256.New, prk, "session token", chacha20poly1305.KeySize)
	if err != nil {
		return nil, err
	}
	aead, err := chacha20poly1305.NewX(key)
	if err != nil {
		return nil, err
	}
	return &sealer{id: [keyIDSize]byte(id), additional: append([]byte(tokenPrefix), id...), prk: prk, aead: aead}, nil
}

// pair derives the access key id (80 bits in base32) and the secret (200 bits in
// base32, 40 characters like AWS's own) that belong to a nonce.
func (s *sealer) pair(nonce []byte) (accessKeyID, secret string, err error) {
	out, err := hkdf.Expand(sha256.New, s.prk, "client credentials"+string(nonce), 10+25)
	if err != nil {
		return "", "", err
	}
	return keyPrefix + base32Alphabet.EncodeToString(out[:10]),
		strings.ToLower(base32Alphabet.EncodeToString(out[10:])), nil
}

// seal makes the credentials for a record.
func (s *sealer) seal(rand io.Reader, record []byte) (Credentials, error) {
	if len(record) > maxRecord {
		return Credentials{}, fmt.Errorf("identity: the grant needs %d bytes, a session token holds %d: shorten the identity's attributes, roles or session parameters", len(record), maxRecord)
	}
	buf := make([]byte, headSize, headSize+len(record)+chacha20poly1305.Overhead)
	copy(buf, s.id[:])
	nonce := buf[keyIDSize:headSize]
	if _, err := io.ReadFull(rand, nonce); err != nil {
		return Credentials{}, fmt.Errorf("identity: no randomness for a session token: %w", err)
	}
	id, secret, err := s.pair(nonce)
	if err != nil {
		return Credentials{}, err
	}
	buf = s.aead.Seal(buf, nonce, record, s.additional)
	return Credentials{
		AccessKeyID:     id,
		SecretAccessKey: secret,
		SessionToken:    tokenPrefix + strictBase64.EncodeToString(buf),
	}, nil
}

// tokenBytes undoes a token's outer form. ok is false for anything that seal
// would not have written.
func tokenBytes(token string) (raw []byte, ok bool) {
	text, found := strings.CutPrefix(token, tokenPrefix)
	if !found || len(token) > MaxTokenLength || strings.IndexByte(text, '\n') >= 0 || strings.IndexByte(text, '\r') >= 0 {
		return nil, false
	}
	raw, err := strictBase64.DecodeString(text)
	if err != nil || len(raw) < headSize+chacha20poly1305.Overhead {
		return nil, false
	}
	return raw, true
}

// open returns the record that a token seals and the secret of its pair. Every
// failure is the same error: it must not say which check failed.
func open(sealers map[[keyIDSize]byte]*sealer, accessKeyID, token string) (record []byte, secret string, err error) {
	raw, ok := tokenBytes(token)
	if !ok {
		return nil, "", errBadToken
	}
	s := sealers[[keyIDSize]byte(raw)]
	if s == nil {
		return nil, "", errBadToken
	}
	nonce := raw[keyIDSize:headSize]
	record, err = s.aead.Open(raw[headSize:headSize], nonce, raw[headSize:], s.additional) // in place: raw is ours
	if err != nil {
		return nil, "", errBadToken
	}
	id, secret, err := s.pair(nonce)
	if err != nil || subtle.ConstantTimeCompare([]byte(id), []byte(accessKeyID)) != 1 {
		return nil, "", errBadToken
	}
	return record, secret, nil
}

// appendRecord writes a grant in the one form that parseRecord accepts:
// lengths and milliseconds as minimal unsigned varints, attributes sorted by name.
func appendRecord(b []byte, g Grant) []byte {
	b = binary.AppendUvarint(b, uint64(g.Issued.UnixMilli()))
	b = binary.AppendUvarint(b, uint64(g.Expires.UnixMilli()-g.Issued.UnixMilli()))
	b = appendString(b, g.Identity.Name)
	b = appendString(b, g.Identity.Issuer)
	b = appendString(b, g.Identity.Boundary)
	b = appendString(b, g.Role)
	b = appendStrings(b, g.Identity.Roles)
	b = binary.AppendUvarint(b, uint64(len(g.Identity.Attributes)))
	for _, k := range slices.Sorted(maps.Keys(g.Identity.Attributes)) {
		b = appendString(b, k)
		b = appendString(b, g.Identity.Attributes[k])
	}
	b = appendStrings(b, g.Parents)
	return appendString(b, string(g.Session))
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func appendStrings(b []byte, list []string) []byte {
	b = binary.AppendUvarint(b, uint64(len(list)))
	for _, s := range list {
		b = appendString(b, s)
	}
	return b
}

// reader reads a record; after the first damage everything it returns is empty.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) number(limit uint64) uint64 {
	v, n := binary.Uvarint(r.b)
	if r.bad || n <= 0 || v > limit || (n > 1 && r.b[n-1] == 0) {
		r.bad, r.b = true, nil
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) text(limit int) string {
	n := r.number(uint64(limit))
	if n > uint64(len(r.b)) {
		r.bad, r.b = true, nil
		return ""
	}
	s := string(r.b[:n])
	r.b = r.b[n:]
	return s
}

func (r *reader) texts(count, limit int) []string {
	n := r.number(uint64(count))
	if n == 0 {
		return nil
	}
	list := make([]string, 0, min(n, 16))
	for range n {
		list = append(list, r.text(limit))
		if r.bad {
			return nil
		}
	}
	return list
}

// parseRecord is the inverse of appendRecord; ok is false for any other bytes.
// The grant's Session is a part of b.
func parseRecord(b []byte) (g Grant, ok bool) {
	r := &reader{b: b}
	issued := r.number(1 << 44)
	lifetime := r.number(1 << 40)
	g.Issued = time.UnixMilli(int64(issued)).UTC()
	g.Expires = time.UnixMilli(int64(issued + lifetime)).UTC()
	g.Identity.Name = r.text(MaxNameLength)
	g.Identity.Issuer = r.text(MaxNameLength)
	g.Identity.Boundary = r.text(MaxNameLength)
	g.Role = r.text(MaxNameLength)
	g.Identity.Roles = r.texts(MaxRoles, MaxNameLength)
	if n := r.number(MaxAttributes); n > 0 {
		g.Identity.Attributes = make(map[string]string, n)
		last := ""
		for i := range n {
			k, v := r.text(MaxAttributeKey), r.text(MaxAttributeValue)
			if r.bad || (i > 0 && k <= last) {
				return Grant{}, false
			}
			g.Identity.Attributes[k], last = v, k
		}
	}
	g.Parents = r.texts(MaxParents, MaxNameLength)
	if n := r.number(uint64(maxRecord)); n > 0 && n <= uint64(len(r.b)) {
		g.Session, r.b = r.b[:n:n], r.b[n:]
	} else if n > 0 {
		r.bad = true
	}
	if r.bad || len(r.b) != 0 {
		return Grant{}, false
	}
	return g, true
}
