package awsapi

import (
	"bytes"
	"compress/gzip"
	"io"
)

// mustGunzip unpacks a table that was embedded when the program was built;
// that it is damaged cannot be mended at run time.
func mustGunzip(b []byte) string {
	z, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		panic("awsapi: embedded table: " + err.Error())
	}
	text, err := io.ReadAll(z)
	if err != nil {
		panic("awsapi: embedded table: " + err.Error())
	}
	return string(text)
}
