package signer

import (
	"bytes"
	"fmt"
	"sync"
	"testing"
)

func TestKeysAreBoundedAndOldestGoesFirst(t *testing.T) {
	c := &Keys{limitValue: 3}
	get := func(region string) *signingKey {
		k, err := c.get(AlgorithmHMAC, "id", "secret", scope{"20260304", region, "s3"})
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	a, b := get("a"), get("b")
	get("c")
	if get("a") != a {
		t.Error("a was derived twice")
	}
	get("d") // b is the oldest now
	if len(c.entries) != 3 {
		t.Errorf("%d entries", len(c.entries))
	}
	if get("a") != a {
		t.Error("a went before b")
	}
	if get("b") == b {
		t.Error("b did not go")
	}
	for i := range 100 {
		get(fmt.Sprint(i))
	}
	n := 1
	for e := c.newest.next; e != c.newest; e = e.next {
		n++
	}
	if len(c.entries) != 3 || n != 3 {
		t.Errorf("%d entries, %d in the ring", len(c.entries), n)
	}
}

func TestKeysFollowTheSecret(t *testing.T) {
	c := &Keys{}
	sc := scope{"20260304", "us-east-1", "s3"}
	for _, algorithm := range []string{AlgorithmHMAC, AlgorithmECDSA} {
		one, _ := c.get(algorithm, "id", "one", sc)
		two, _ := c.get(algorithm, "id", "two", sc)
		if one == two {
			t.Fatalf("%s: the key of another secret", algorithm)
		}
		sig, err := one.sign(nil, []byte("text"))
		if err != nil || !one.verify([]byte("text"), string(sig)) || two.verify([]byte("text"), string(sig)) || one.verify([]byte("texs"), string(sig)) {
			t.Errorf("%s: %s, %v", algorithm, sig, err)
		}
		again, err := one.sign(nil, []byte("text"))
		if err != nil || !bytes.Equal(sig, again) {
			t.Errorf("%s: signing is not deterministic", algorithm)
		}
		if len(c.entries) > 2 {
			t.Errorf("%d entries", len(c.entries))
		}
	}
}

func TestKeysInParallel(t *testing.T) {
	c := &Keys{limitValue: 4}
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 200 {
				sc := scope{"20260304", fmt.Sprint((g + i) % 8), "s3"}
				k, err := c.get(AlgorithmHMAC, "id", "secret", sc)
				if err != nil {
					t.Error(err)
					return
				}
				want, _ := deriveKey(AlgorithmHMAC, "id", "secret", sc)
				if !bytes.Equal(k.sum(nil, []byte("x")), want.sum(nil, []byte("x"))) {
					t.Error("the key of another scope")
				}
			}
		})
	}
	wg.Wait()
}
