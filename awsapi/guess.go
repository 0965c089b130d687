package awsapi

import (
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"
)

// mightHandOutKeys says whether AWS could take a request that we do not
// understand for a call whose answer carries AWS keys. It is generous: names
// are compared without case, paths after decoding and cleaning, and a request
// that gives no hint at all counts, as does one whose form was not read.
func mightHandOutKeys(in Input) bool {
	var ops []*operation
	s3, form := false, false
	for _, name := range in.Host.Models {
		m := modelNamed(name)
		if m == nil || !m.tierA {
			continue
		}
		s3 = s3 || name == "s3"
		form = form || slices.Contains(m.protocols, ProtocolQuery)
		for _, op := range m.ops {
			if op.tier == "A" {
				ops = append(ops, op)
			}
		}
	}
	if ops == nil {
		return false
	}
	r := in.Request
	target := r.RequestURI
	if target == "" && r.URL != nil {
		target = r.URL.RequestURI()
	}
	rawPath, rawQuery, _ := strings.Cut(target, "?")
	query, err := url.ParseQuery(rawQuery)
	if err != nil {
		query = url.Values{} // what could be read is in the raw text
	}
	if s3 {
		// CreateSession is GET /?session.
		for k := range query {
			if strings.EqualFold(strings.TrimSpace(k), "session") {
				return true
			}
		}
		return err != nil
	}
	var hints []string
	hint := func(s string) {
		if s != "" {
			hints = append(hints, s)
		}
	}
	for _, t := range r.Header.Values("X-Amz-Target") {
		hint(t[strings.LastIndexByte(t, '.')+1:])
	}
	unreadable := err != nil
	for k, v := range query {
		switch k = strings.TrimSpace(k); {
		case strings.EqualFold(k, "action"):
			for _, a := range v {
				hint(strings.TrimSpace(a))
			}
		case strings.EqualFold(k, "x-amz-target"):
			for _, t := range v {
				hint(t[strings.LastIndexByte(t, '.')+1:])
			}
		}
	}
	media := mediaType(r.Header.Get("Content-Type"))
	formLike := media == "application/x-www-form-urlencoded" || media == "" || media == "multipart/form-data"
	if in.Body == nil && r.Method == http.MethodPost && (formLike || form) {
		// Whatever the head says, the form that was not read may name another
		// operation, and services of the query protocol go by it.
		unreadable = true
	}
	// What a service unpacks, and what one reads that does not, are two texts.
	unreadable = unreadable || formLike && len(codings(r.Header)) > 0
	params, err := url.ParseQuery(string(in.Body))
	unreadable = unreadable || err != nil && formLike
	for k, v := range params {
		if strings.EqualFold(strings.TrimSpace(k), "action") {
			for _, a := range v {
				hint(strings.TrimSpace(a))
			}
		}
	}
	decoded, err := url.PathUnescape(rawPath)
	if err != nil {
		decoded, unreadable = rawPath, true
	}
	segments := splitPath(path.Clean("/" + decoded))
	if len(segments) > 0 {
		hint(segments[len(segments)-1])
	}
	each := splitPath(rawPath) // the same, where an escaped slash is part of a segment
	for i, s := range each {
		if plain, err := url.PathUnescape(s); err == nil {
			each[i] = plain
		}
	}
	if unreadable || len(hints) == 0 {
		return true
	}
	for _, op := range ops {
		if slices.ContainsFunc(hints, func(h string) bool { return strings.EqualFold(h, op.name) }) {
			return true
		}
		pattern, _, _ := strings.Cut(op.uri, "?")
		if pattern != "/" && (looselyFits(splitPath(pattern), segments) || looselyFits(splitPath(pattern), each)) {
			return true
		}
	}
	return false
}

// looselyFits matches a path with a pattern, whatever the case and the method.
func looselyFits(pattern, segments []string) bool {
	if len(pattern) != len(segments) {
		return false
	}
	for i, p := range pattern {
		if !strings.HasPrefix(p, "{") && !strings.EqualFold(p, segments[i]) {
			return false
		}
	}
	return true
}
