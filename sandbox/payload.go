package sandbox

import (
	"bufio"
	"bytes"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"hash"
	"hash/crc32"
	"hash/crc64"
	"io"
	"net/http"
	"net/textproto"
	"strconv"
	"strings"
)

// decodePayload checks the body against the hash that was signed, and takes
// aws-chunked framing off.
func decodePayload(r *http.Request, payload string, raw []byte) ([]byte, error) {
	switch {
	case payload == "UNSIGNED-PAYLOAD":
		return raw, nil
	case payload == "STREAMING-UNSIGNED-PAYLOAD-TRAILER":
		return decodeChunks(r, raw)
	case strings.HasPrefix(payload, "STREAMING-"):
		return nil, &apiError{501, "NotImplemented", "the sandbox does not verify " + payload}
	}
	sum := sha256.Sum256(raw)
	if payload != hex.EncodeToString(sum[:]) {
		return nil, &apiError{400, "XAmzContentSHA256Mismatch", "The provided 'x-amz-content-sha256' header does not match what was computed."}
	}
	return raw, nil
}

// decodeChunks takes off the framing of
// docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming-trailers.html,
// and checks the announced length and the checksum in the trailer.
func decodeChunks(r *http.Request, raw []byte) ([]byte, error) {
	in := bufio.NewReader(bytes.NewReader(raw))
	lines := textproto.NewReader(in)
	var body []byte
	for {
		line, err := lines.ReadLine()
		if err != nil {
			return nil, malformed("it ends before the last chunk")
		}
		n, err := strconv.ParseUint(line, 16, 31)
		if err != nil || n > maxBody {
			return nil, malformed("chunk size " + strconv.Quote(line))
		}
		if n == 0 {
			break
		}
		chunk := make([]byte, n)
		if _, err := io.ReadFull(in, chunk); err != nil {
			return nil, malformed("a chunk is cut short")
		}
		if end, err := lines.ReadLine(); err != nil || end != "" {
			return nil, malformed("a chunk is longer than it says")
		}
		body = append(body, chunk...)
	}
	trailer, err := lines.ReadMIMEHeader()
	if err != nil {
		return nil, malformed("the trailer is cut short")
	}
	if _, err := in.ReadByte(); err != io.EOF {
		return nil, malformed("bytes follow the trailer")
	}
	if want := r.Header.Get("X-Amz-Decoded-Content-Length"); want != strconv.Itoa(len(body)) {
		return nil, malformed("x-amz-decoded-content-length is " + strconv.Quote(want) + ", not " + strconv.Itoa(len(body)))
	}
	for name := range strings.SplitSeq(r.Header.Get("X-Amz-Trailer"), ",") {
		name = strings.TrimSpace(strings.ToLower(name))
		if name == "" {
			continue
		}
		sum, ok := checksum(name)
		if !ok {
			return nil, &apiError{501, "NotImplemented", "the sandbox does not know the trailer " + strconv.Quote(name)}
		}
		sum.Write(body)
		if trailer.Get(name) != base64.StdEncoding.EncodeToString(sum.Sum(nil)) {
			return nil, &apiError{400, "BadDigest", "The " + name + " you specified did not match what was computed."}
		}
	}
	return body, nil
}

func malformed(what string) error {
	return &apiError{400, "IncompleteBody", "the aws-chunked body is malformed: " + what}
}

func checksum(name string) (hash.Hash, bool) {
	switch name {
	case "x-amz-checksum-crc32":
		return crc32.NewIEEE(), true
	case "x-amz-checksum-crc32c":
		return crc32.New(crc32.MakeTable(crc32.Castagnoli)), true
	case "x-amz-checksum-crc64nvme":
		return crc64.New(crc64.MakeTable(0x9a6c9329ac4bc9b5)), true // NVME polynomial, reflected
	case "x-amz-checksum-sha1":
		return sha1.New(), true
	case "x-amz-checksum-sha256":
		return sha256.New(), true
	}
	return nil, false
}
