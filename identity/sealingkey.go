package identity

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/countersign-proxy/countersign/safefile"
)

// Sizes of a sealing key, in bytes.
const (
	MinSealingKeySize = 32
	MaxSealingKeySize = 128
	// maxSealingKeyFile bounds what is read of a key file.
	maxSealingKeyFile = 4096
)

// sealingKeyHeader is the first line of the files that CreateSealingKey writes. A
// file without it is accepted as well: the bare base64 text of a key, as
// `openssl rand -base64 32` prints it.
const sealingKeyHeader = "countersign-sealing-key-v1"

// SealingKey is a key that seals session tokens. All replicas that are to accept
// each other's tokens hold the same keys.
type SealingKey struct {
	secret []byte
	source string // file it came from, for messages
}

// NewSealingKey returns a key made of secret bytes from a cryptographic random source.
func NewSealingKey(secret []byte) (SealingKey, error) {
	if len(secret) < MinSealingKeySize || len(secret) > MaxSealingKeySize {
		return SealingKey{}, fmt.Errorf("identity: a sealing key has %d to %d bytes, not %d", MinSealingKeySize, MaxSealingKeySize, len(secret))
	}
	return SealingKey{secret: bytes.Clone(secret), source: "memory"}, nil
}

// GenerateSealingKey makes a fresh key that is written nowhere.
func GenerateSealingKey(rand io.Reader) (SealingKey, error) {
	secret := make([]byte, MinSealingKeySize)
	if _, err := io.ReadFull(rand, secret); err != nil {
		return SealingKey{}, fmt.Errorf("identity: no randomness for a sealing key: %w", err)
	}
	return SealingKey{secret: secret, source: "memory"}, nil
}

// String names where the key came from, never the key.
func (k SealingKey) String() string { return "sealing key from " + k.source }

// GoString keeps %#v from printing the key.
func (k SealingKey) GoString() string { return k.String() }

// LoadSealingKey reads a key file. It refuses a file that others may read or
// change, or that its group may change.
func LoadSealingKey(path string) (SealingKey, error) {
	text, err := safefile.Read(path, safefile.Private, maxSealingKeyFile)
	var exposed *safefile.ExposedError
	switch {
	case errors.Is(err, safefile.ErrNotRegular):
		return SealingKey{}, fmt.Errorf("identity: the sealing key %s is not a regular file", path)
	case errors.As(err, &exposed):
		return SealingKey{}, fmt.Errorf("identity: the sealing key %w, and replace it if they may have done so (delete the file; a fresh one is made)", err)
	case errors.As(err, new(*safefile.TooLargeError)):
		return SealingKey{}, fmt.Errorf("identity: the sealing key %w: restore it, or delete it to have a fresh one made (credentials sealed with it stop working)", err)
	case err != nil:
		return SealingKey{}, fmt.Errorf("identity: read the sealing key: %w", err)
	}
	secret, err := parseSealingKey(text)
	if err != nil {
		return SealingKey{}, fmt.Errorf("identity: the sealing key %s %w: restore it, or delete it to have a fresh one made (credentials sealed with it stop working)", path, err)
	}
	return SealingKey{secret: secret, source: path}, nil
}

// parseSealingKey reads the text of a key file. Its errors do not quote the text.
func parseSealingKey(text []byte) ([]byte, error) {
	body := strings.TrimSpace(string(text))
	if rest, ok := strings.CutPrefix(body, sealingKeyHeader); ok {
		body = strings.TrimSpace(rest)
	}
	if body == "" {
		return nil, errors.New("is empty")
	}
	secret, err := base64.StdEncoding.Strict().DecodeString(body)
	if err != nil || strings.ContainsAny(body, "\r\n") {
		return nil, errors.New("is damaged: expected one line of base64")
	}
	if len(secret) < MinSealingKeySize || len(secret) > MaxSealingKeySize {
		return nil, fmt.Errorf("holds %d bytes, expected %d to %d", len(secret), MinSealingKeySize, MaxSealingKeySize)
	}
	return secret, nil
}

// LoadOrCreateSealingKey reads the key file, or makes it (mode 0600) when there is
// none. The file appears whole or not at all, and of two processes that start at
// once both use the key that was there first.
func LoadOrCreateSealingKey(path string, rand io.Reader) (SealingKey, error) {
	key, err := LoadSealingKey(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return key, err
	}
	key, err = GenerateSealingKey(rand)
	if err != nil {
		return SealingKey{}, err
	}
	text := sealingKeyHeader + "\n" + base64.StdEncoding.EncodeToString(key.secret) + "\n"
	if err := safefile.Create(path, []byte(text)); err != nil && !errors.Is(err, fs.ErrExist) {
		return SealingKey{}, fmt.Errorf("identity: create the sealing key: %w", err)
	}
	return LoadSealingKey(path)
}
