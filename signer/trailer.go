package signer

import (
	"bufio"
	"slices"
	"strings"
)

const (
	maxTrailers     = 16       // lines
	maxTrailer      = 2 << 10  // bytes of one line
	maxTrailerBytes = 16 << 10 // bytes of all lines
	trailerName     = "x-amz-trailer-signature"
)

// A trailerReader reads what follows the final chunk:
//
//	name:value CRLF …
//	x-amz-trailer-signature:signature CRLF    (where trailers are signed)
//	CRLF
type trailerReader struct {
	announced []string // by X-Amz-Trailer: all of them must come, and no others
	raw       []byte   // the lines before the signature, as sent
	canonical []byte   // name:value LF …, in lower case and sorted
}

// read reads the trailer. With a chain it verifies it as the next link.
func (t *trailerReader) read(src *bufio.Reader, c *chain) *Error {
	var fields []pair
	for {
		line, err := readLine(src, "a trailer", maxTrailer)
		if err != nil {
			return err
		}
		if len(line) == 0 {
			if c != nil {
				return refuse(ReasonChunk, "the trailer has no %s", trailerName)
			}
			return nil
		}
		name, value, ok := strings.Cut(string(line), ":")
		lower := strings.ToLower(name)
		if !ok || !isLowerToken(lower) {
			return refuse(ReasonChunk, "a trailer is not of the form name:value")
		}
		if c != nil && lower == trailerName {
			return t.verify(src, c, fields, value)
		}
		t.raw = append(append(t.raw, line...), '\r', '\n')
		if len(fields) == maxTrailers || len(t.raw) > maxTrailerBytes {
			return refuse(ReasonTooLarge, "the body has more than %d trailers, or more than %d bytes of them", maxTrailers, maxTrailerBytes)
		}
		fields = append(fields, pair{lower, strings.Trim(value, " \t")})
	}
}

// verify checks the trailer's signature and that nothing follows but CRLF.
func (t *trailerReader) verify(src *bufio.Reader, c *chain, fields []pair, signature string) *Error {
	slices.SortStableFunc(fields, func(a, b pair) int { return strings.Compare(a.name, b.name) })
	names := make([]string, 0, len(fields))
	for _, f := range fields {
		names = append(names, f.name)
		t.canonical = append(t.canonical, f.name+":"+f.value+"\n"...)
	}
	announced := slices.Clone(t.announced)
	slices.Sort(announced)
	if !slices.Equal(names, announced) || len(slices.Compact(announced)) != len(names) {
		return refuse(ReasonChunk, "the trailers are not those that X-Amz-Trailer announces")
	}
	if len(signature) != c.width() || !c.verify(c.trailer(t.canonical), []byte(signature)) {
		return refuse(ReasonChunkSig, "the signature of the trailer is wrong")
	}
	line, err := readLine(src, "the end of the trailer", maxTrailer)
	if err != nil {
		return err
	}
	if len(line) != 0 {
		return refuse(ReasonChunk, "the trailer goes on after its signature")
	}
	return nil
}
