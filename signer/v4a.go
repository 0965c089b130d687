package signer

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"math/big"
)

// deriveECDSA makes the P-256 key that an access key pair stands for in
// SigV4A: candidates from a counter-mode KDF over HMAC-SHA256 (NIST SP 800-108)
// until one is small enough (FIPS 186-4 appendix B.4.2).
func deriveECDSA(accessKeyID, secret string) (*signingKey, error) {
	order := elliptic.P256().Params().N
	limit := new(big.Int).Sub(order, big.NewInt(2))
	for counter := 1; counter <= 254; counter++ {
		h := hmac.New(sha256.New, []byte("AWS4A"+secret))
		h.Write([]byte{0, 0, 0, 1})
		h.Write([]byte(AlgorithmECDSA))
		h.Write([]byte{0})
		h.Write([]byte(accessKeyID))
		h.Write([]byte{byte(counter), 0, 0, 1, 0})
		k := new(big.Int).SetBytes(h.Sum(nil))
		if k.Cmp(limit) > 0 {
			continue
		}
		k.Add(k, big.NewInt(1))
		priv, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), k.FillBytes(make([]byte, 32)))
		if err != nil {
			return nil, err
		}
		return &signingKey{priv: priv}, nil
	}
	return nil, errors.New("these credentials yield no SigV4A key")
}

// sign appends the signature of a string to sign in the hexadecimal form that
// goes on the wire. ECDSA signatures are deterministic (RFC 6979), so that the
// same request at the same time is the same bytes.
func (k *signingKey) sign(dst, stringToSign []byte) ([]byte, error) {
	if k.priv == nil {
		var mac [32]byte
		return appendHex(dst, k.sum(mac[:0], stringToSign)), nil
	}
	digest := sha256.Sum256(stringToSign)
	der, err := k.priv.Sign(nil, digest[:], cryptoSHA256)
	if err != nil {
		return dst, err
	}
	return appendHex(dst, der), nil
}

// verify tells whether signature, in hexadecimal as it came, is one of this
// string to sign. The comparison takes constant time.
func (k *signingKey) verify(stringToSign []byte, signature string) bool {
	if k.priv == nil {
		var mac [32]byte
		var text [64]byte
		return constantTimeEqual(appendHex(text[:0], k.sum(mac[:0], stringToSign)), signature)
	}
	if len(signature) > maxECDSASignature {
		return false
	}
	der, err := hex.DecodeString(signature)
	if err != nil {
		return false
	}
	digest := sha256.Sum256(stringToSign)
	return ecdsa.VerifyASN1(&k.priv.PublicKey, digest[:], der)
}
