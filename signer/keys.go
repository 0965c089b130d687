package signer

import (
	"crypto/ecdsa"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"hash"
	"strings"
	"sync"
)

// Keys caches derived signing keys. It holds at most 1024 of them, the least
// recently used one goes first, and it holds no secret access key: an entry
// knows a secret by its SHA-256. The zero value is ready; a Keys must not be
// copied and may be used by any number of goroutines. Without one ([VerifyOptions]
// and [ResignOptions] allow nil) every request derives its key again, which costs
// four HMACs, or an elliptic curve multiplication for SigV4A.
type Keys struct {
	mu         sync.Mutex
	entries    map[keyID]*keyEntry
	newest     *keyEntry // a ring: newest.prev is the oldest
	limitValue int       // for tests; 0 means maxKeys
}

const maxKeys = 1024

// A keyID says which key of an access key pair is meant. SigV4A has one key
// for all dates, regions and services.
type keyID struct {
	algorithm, accessKeyID string
	scope                  scope
}

type keyEntry struct {
	id         keyID
	secret     [32]byte // SHA-256 of the secret access key
	key        *signingKey
	prev, next *keyEntry
}

// A signingKey signs and verifies strings to sign. It is safe for concurrent
// use.
type signingKey struct {
	hmac sync.Pool // of hash.Hash, keyed
	priv *ecdsa.PrivateKey
}

func newHMACKey(key []byte) *signingKey {
	k := &signingKey{}
	k.hmac.New = func() any { return hmac.New(sha256.New, key) }
	return k
}

// sum appends the HMAC of msg.
func (k *signingKey) sum(dst, msg []byte) []byte {
	h := k.hmac.Get().(hash.Hash)
	h.Reset()
	h.Write(msg)
	dst = h.Sum(dst)
	k.hmac.Put(h)
	return dst
}

// get returns the key for these credentials, from the cache where there is one.
func (c *Keys) get(algorithm, accessKeyID, secret string, sc scope) (*signingKey, error) {
	if c == nil {
		return deriveKey(algorithm, accessKeyID, secret, sc)
	}
	id := keyID{algorithm: algorithm, accessKeyID: accessKeyID, scope: sc}
	if algorithm == AlgorithmECDSA {
		id.scope = scope{}
	}
	digest := secretDigest(secret)
	c.mu.Lock()
	if e := c.entries[id]; e != nil && subtle.ConstantTimeCompare(e.secret[:], digest[:]) == 1 {
		c.touch(e)
		k := e.key
		c.mu.Unlock()
		return k, nil
	}
	c.mu.Unlock()
	k, err := deriveKey(algorithm, accessKeyID, secret, sc)
	if err != nil {
		return nil, err
	}
	c.put(id.clone(), digest, k)
	return k, nil
}

func secretDigest(secret string) [32]byte {
	var room [128]byte
	return sha256.Sum256(append(room[:0], secret...))
}

// clone detaches an id from the request that its strings came from.
func (id keyID) clone() keyID {
	id.accessKeyID = strings.Clone(id.accessKeyID)
	id.scope.date = strings.Clone(id.scope.date)
	id.scope.region = strings.Clone(id.scope.region)
	id.scope.service = strings.Clone(id.scope.service)
	return id
}

func (c *Keys) put(id keyID, digest [32]byte, k *signingKey) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.entries[id]; e != nil {
		e.secret, e.key = digest, k
		c.touch(e)
		return
	}
	limit := c.limitValue
	if limit == 0 {
		limit = maxKeys
	}
	if len(c.entries) >= limit {
		oldest := c.newest.prev
		c.unlink(oldest)
		delete(c.entries, oldest.id)
	}
	if c.entries == nil {
		c.entries = make(map[keyID]*keyEntry)
	}
	e := &keyEntry{id: id, secret: digest, key: k}
	c.entries[id] = e
	c.link(e)
}

func (c *Keys) touch(e *keyEntry) {
	if c.newest != e {
		c.unlink(e)
		c.link(e)
	}
}

func (c *Keys) link(e *keyEntry) {
	if c.newest == nil {
		e.prev, e.next = e, e
	} else {
		e.next, e.prev = c.newest, c.newest.prev
		e.prev.next, e.next.prev = e, e
	}
	c.newest = e
}

func (c *Keys) unlink(e *keyEntry) {
	if e.next == e {
		c.newest = nil
		return
	}
	e.prev.next, e.next.prev = e.next, e.prev
	if c.newest == e {
		c.newest = e.next
	}
}

func deriveKey(algorithm, accessKeyID, secret string, sc scope) (*signingKey, error) {
	if algorithm == AlgorithmECDSA {
		return deriveECDSA(accessKeyID, secret)
	}
	key := hmacSum([]byte("AWS4"+secret), sc.date)
	key = hmacSum(key, sc.region)
	key = hmacSum(key, sc.service)
	return newHMACKey(hmacSum(key, terminator)), nil
}

func hmacSum(key []byte, msg string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(msg))
	return h.Sum(nil)
}
