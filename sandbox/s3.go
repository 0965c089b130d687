package sandbox

import (
	"bytes"
	"crypto/md5"
	"encoding/base64"
	"encoding/hex"
	"encoding/xml"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

type bucket struct {
	created time.Time
	region  string
	objects map[string]*object
}

type object struct {
	data     []byte
	etag     string
	modified time.Time
	header   http.Header // what GET gives back: type, encoding, x-amz-meta-*
}

var bucketName = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`)

// place finds bucket and key in a request, addressed by host or by path.
// docs.aws.amazon.com/AmazonS3/latest/userguide/VirtualHosting.html
func place(c *call) (name, key string, err error) {
	path := strings.TrimPrefix(c.rawPath(), "/")
	if before, _, ok := strings.Cut("."+c.hostOnly(), ".s3."); ok && before != "" {
		name = strings.TrimPrefix(before, ".")
	} else {
		name, path, _ = strings.Cut(path, "/")
		if name, err = url.PathUnescape(name); err != nil {
			return "", "", &apiError{400, "InvalidURI", "Couldn't parse the specified URI."}
		}
	}
	if key, err = url.PathUnescape(path); err != nil {
		return "", "", &apiError{400, "InvalidURI", "Couldn't parse the specified URI."}
	}
	return name, key, nil
}

// subresources change what a method means; the sandbox has none of them.
var subresources = []string{"acl", "cors", "delete", "encryption", "lifecycle", "logging", "notification", "object-lock", "ownershipControls",
	"partNumber", "policy", "publicAccessBlock", "replication", "restore", "retention", "tagging", "torrent", "uploadId", "uploads",
	"versionId", "versioning", "versions", "website", "attributes", "legal-hold", "select", "session", "analytics", "inventory", "metrics", "accelerate", "requestPayment"}

func (s *Server) serveS3(w http.ResponseWriter, c *call) error {
	w.Header().Set("x-amz-request-id", c.id)
	name, key, err := place(c)
	if err != nil {
		return err
	}
	query := c.URL.Query()
	for _, sub := range subresources {
		if query.Has(sub) {
			return &apiError{501, "NotImplemented", "the sandbox's S3 has no " + sub}
		}
	}
	var operation string
	var serve func(http.ResponseWriter, *call, string, string) error
	switch level := c.Method; {
	case name == "" && level == http.MethodGet:
		operation, serve = "ListBuckets", s.listBuckets
	case name == "":
	case key == "" && level == http.MethodPut:
		operation, serve = "CreateBucket", s.createBucket
	case key == "" && level == http.MethodHead:
		operation, serve = "HeadBucket", s.headBucket
	case key == "" && level == http.MethodDelete:
		operation, serve = "DeleteBucket", s.deleteBucket
	case key == "" && level == http.MethodGet && query.Has("location"):
		operation, serve = "GetBucketLocation", s.bucketLocation
	case key == "" && level == http.MethodGet && query.Get("list-type") == "2":
		operation, serve = "ListObjectsV2", s.listObjects
	case key != "" && level == http.MethodPut && c.Header.Get("X-Amz-Copy-Source") == "":
		operation, serve = "PutObject", s.putObject
	case key != "" && level == http.MethodGet:
		operation, serve = "GetObject", s.getObject
	case key != "" && level == http.MethodHead:
		operation, serve = "HeadObject", s.getObject
	case key != "" && level == http.MethodDelete:
		operation, serve = "DeleteObject", s.deleteObject
	}
	if serve == nil {
		return &apiError{501, "NotImplemented", "A header or query you provided implies functionality that the sandbox does not have"}
	}
	c.record.Operation = operation
	return serve(w, c, name, key)
}

func noSuchBucket() error {
	return &apiError{404, "NoSuchBucket", "The specified bucket does not exist"}
}

func (s *Server) listBuckets(w http.ResponseWriter, c *call, _, _ string) error {
	type entry struct{ Name, CreationDate, BucketRegion string }
	type owner struct{ ID, DisplayName string }
	var entries []entry
	s.mu.Lock()
	for _, name := range slices.Sorted(maps.Keys(s.buckets)) {
		entries = append(entries, entry{name, s3Time(s.buckets[name].created), s.buckets[name].region})
	}
	s.mu.Unlock()
	writeXML(w, c, http.StatusOK, struct {
		XMLName xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ ListAllMyBucketsResult"`
		Owner   owner
		Buckets []entry `xml:"Buckets>Bucket"`
	}{Owner: owner{s.options.Account, "sandbox"}, Buckets: entries})
	return nil
}

func (s *Server) createBucket(w http.ResponseWriter, c *call, name, _ string) error {
	if !bucketName.MatchString(name) {
		return &apiError{400, "InvalidBucketName", "The specified bucket is not valid."}
	}
	region := c.record.Region
	if len(c.body) > 0 {
		var wanted struct{ LocationConstraint string }
		if err := xml.Unmarshal(c.body, &wanted); err != nil {
			return &apiError{400, "MalformedXML", "The XML you provided was not well-formed or did not validate against our published schema"}
		}
		if wanted.LocationConstraint != "" {
			region = wanted.LocationConstraint
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.buckets[name] != nil {
		return &apiError{409, "BucketAlreadyOwnedByYou", "Your previous request to create the named bucket succeeded and you already own it."}
	}
	if len(s.buckets) >= maxContainers {
		return &apiError{400, "TooManyBuckets", "You have attempted to create more buckets than allowed"}
	}
	s.buckets[name] = &bucket{created: c.now, region: region, objects: map[string]*object{}}
	w.Header().Set("Location", "/"+name)
	w.WriteHeader(http.StatusOK)
	return nil
}

// withBucket runs f with the bucket locked.
func (s *Server) withBucket(name string, f func(*bucket) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.buckets[name]
	if b == nil {
		return noSuchBucket()
	}
	return f(b)
}

func (s *Server) headBucket(w http.ResponseWriter, _ *call, name, _ string) error {
	return s.withBucket(name, func(b *bucket) error {
		w.Header().Set("x-amz-bucket-region", b.region)
		w.WriteHeader(http.StatusOK)
		return nil
	})
}

func (s *Server) bucketLocation(w http.ResponseWriter, c *call, name, _ string) error {
	return s.withBucket(name, func(b *bucket) error {
		region := b.region
		if region == "us-east-1" { // has the empty name here, for historical reasons
			region = ""
		}
		writeXML(w, c, http.StatusOK, struct {
			XMLName xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ LocationConstraint"`
			Region  string   `xml:",chardata"`
		}{Region: region})
		return nil
	})
}

func (s *Server) deleteBucket(w http.ResponseWriter, _ *call, name, _ string) error {
	return s.withBucket(name, func(b *bucket) error {
		if len(b.objects) > 0 {
			return &apiError{409, "BucketNotEmpty", "The bucket you tried to delete is not empty"}
		}
		delete(s.buckets, name)
		w.WriteHeader(http.StatusNoContent)
		return nil
	})
}

func (s *Server) putObject(w http.ResponseWriter, c *call, name, key string) error {
	if len(key) > 1024 {
		return &apiError{400, "KeyTooLongError", "Your key is too long"}
	}
	sum := md5.Sum(c.body)
	if want := c.Header.Get("Content-Md5"); want != "" && want != base64.StdEncoding.EncodeToString(sum[:]) {
		return &apiError{400, "BadDigest", "The Content-MD5 you specified did not match what we received."}
	}
	o := &object{data: c.body, etag: `"` + hex.EncodeToString(sum[:]) + `"`, modified: c.now, header: http.Header{}}
	o.header.Set("Content-Type", "binary/octet-stream")
	for name, values := range c.Header {
		value := strings.Join(values, ",")
		switch {
		case name == "Content-Encoding":
			// aws-chunked was on the wire only; what else there is belongs to the object.
			var kept []string
			for coding := range strings.SplitSeq(value, ",") {
				if coding = strings.TrimSpace(coding); coding != "" && coding != "aws-chunked" {
					kept = append(kept, coding)
				}
			}
			if len(kept) > 0 {
				o.header.Set(name, strings.Join(kept, ","))
			}
		case strings.HasPrefix(name, "X-Amz-Checksum-"):
			if h, ok := checksum(strings.ToLower(name)); ok {
				h.Write(c.body)
				if base64.StdEncoding.EncodeToString(h.Sum(nil)) != value {
					return &apiError{400, "BadDigest", "The " + strings.ToLower(name) + " you specified did not match what was computed."}
				}
			}
		case name == "Content-Type", name == "Content-Disposition", name == "Content-Language", name == "Cache-Control", name == "Expires",
			strings.HasPrefix(name, "X-Amz-Meta-"):
			o.header.Set(name, value)
		}
	}
	return s.withBucket(name, func(b *bucket) error {
		old := b.objects[key]
		if c.Header.Get("If-None-Match") == "*" && old != nil {
			return &apiError{412, "PreconditionFailed", "At least one of the pre-conditions you specified did not hold"}
		}
		grown := s.stored + int64(len(o.data))
		if old != nil {
			grown -= int64(len(old.data))
		}
		if grown > maxStored || old == nil && len(b.objects) >= maxItems {
			return &apiError{400, "EntityTooLarge", "the sandbox is full: it keeps " + strconv.Itoa(maxStored) + " bytes and " + strconv.Itoa(maxItems) + " objects a bucket"}
		}
		s.stored = grown
		b.objects[key] = o
		w.Header().Set("ETag", o.etag)
		w.WriteHeader(http.StatusOK)
		return nil
	})
}

// getObject serves GET and HEAD, with ranges and preconditions by net/http.
func (s *Server) getObject(w http.ResponseWriter, c *call, name, key string) error {
	var o *object
	err := s.withBucket(name, func(b *bucket) error {
		if o = b.objects[key]; o == nil {
			return &apiError{404, "NoSuchKey", "The specified key does not exist."}
		}
		return nil
	})
	if err != nil {
		return err
	}
	maps.Copy(w.Header(), o.header)
	w.Header().Set("ETag", o.etag)
	http.ServeContent(w, c.Request, "", o.modified, bytes.NewReader(o.data))
	return nil
}

func (s *Server) deleteObject(w http.ResponseWriter, _ *call, name, key string) error {
	return s.withBucket(name, func(b *bucket) error {
		if o := b.objects[key]; o != nil {
			s.stored -= int64(len(o.data))
			delete(b.objects, key)
		}
		w.WriteHeader(http.StatusNoContent) // also where there was nothing
		return nil
	})
}

// listing is the answer of ListObjectsV2.
type listing struct {
	XMLName               xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ ListBucketResult"`
	Name                  string
	Prefix                string
	Delimiter             string `xml:",omitempty"`
	StartAfter            string `xml:",omitempty"`
	EncodingType          string `xml:",omitempty"`
	MaxKeys               int
	KeyCount              int
	IsTruncated           bool
	ContinuationToken     string `xml:",omitempty"`
	NextContinuationToken string `xml:",omitempty"`
	Contents              []listedObject
	CommonPrefixes        []listedPrefix
}
type listedObject struct {
	Key, LastModified, ETag string
	Size                    int
	StorageClass            string
}
type listedPrefix struct{ Prefix string }

func (s *Server) listObjects(w http.ResponseWriter, c *call, name, _ string) error {
	q := c.URL.Query()
	out := listing{Name: name, Prefix: q.Get("prefix"), Delimiter: q.Get("delimiter"), StartAfter: q.Get("start-after"),
		EncodingType: q.Get("encoding-type"), MaxKeys: 1000, ContinuationToken: q.Get("continuation-token")}
	if text := q.Get("max-keys"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 0 {
			return &apiError{400, "InvalidArgument", "Provided max-keys not an integer or within integer range"}
		}
		out.MaxKeys = min(n, 1000)
	}
	after := out.StartAfter
	if out.ContinuationToken != "" {
		token, err := base64.URLEncoding.DecodeString(out.ContinuationToken)
		if err != nil {
			return &apiError{400, "InvalidArgument", "The continuation token provided is incorrect"}
		}
		after = string(token)
	}
	encode := func(text string) string { return text }
	switch out.EncodingType {
	case "":
	case "url":
		encode = func(text string) string { return strings.ReplaceAll(url.QueryEscape(text), "%2F", "/") }
	default:
		return &apiError{400, "InvalidArgument", "Invalid Encoding Method specified in Request"}
	}
	err := s.withBucket(name, func(b *bucket) error {
		last := ""
		for _, key := range slices.Sorted(maps.Keys(b.objects)) {
			if !strings.HasPrefix(key, out.Prefix) || key <= after {
				continue
			}
			common := ""
			if out.Delimiter != "" {
				if head, _, ok := strings.Cut(key[len(out.Prefix):], out.Delimiter); ok {
					common = out.Prefix + head + out.Delimiter
				}
			}
			// A page may have ended within a group: its prefix was listed then.
			if common != "" && (out.ContinuationToken != "" && strings.HasPrefix(after, common) || lastOf(out.CommonPrefixes) == encode(common)) {
				last = key
				continue
			}
			if out.KeyCount == out.MaxKeys {
				out.IsTruncated = out.MaxKeys > 0
				break
			}
			out.KeyCount++
			last = key
			if common != "" {
				out.CommonPrefixes = append(out.CommonPrefixes, listedPrefix{encode(common)})
				continue
			}
			o := b.objects[key]
			out.Contents = append(out.Contents, listedObject{encode(key), s3Time(o.modified), o.etag, len(o.data), "STANDARD"})
		}
		if out.IsTruncated {
			out.NextContinuationToken = base64.URLEncoding.EncodeToString([]byte(last))
		}
		return nil
	})
	if err != nil {
		return err
	}
	out.Prefix, out.Delimiter, out.StartAfter = encode(out.Prefix), encode(out.Delimiter), encode(out.StartAfter)
	writeXML(w, c, http.StatusOK, out)
	return nil
}

// lastOf is the last of the prefixes, "" for none.
func lastOf(prefixes []listedPrefix) string {
	if len(prefixes) == 0 {
		return ""
	}
	return prefixes[len(prefixes)-1].Prefix
}

func s3Time(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }
