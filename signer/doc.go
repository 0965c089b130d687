// Package signer verifies AWS request signatures as a service would, and signs
// verified requests again with other credentials, without holding their bodies.
//
//	sig, err := signer.Parse(r)                      // what the request says; no key, no body
//	secret := …                                      // looked up by sig.AccessKeyID and sig.SecurityToken
//	v, err := signer.Verify(r, sig, secret, …)       // the signature is right
//	…                                                // policy; v.Buffer for the body's meaning
//	err = signer.Resign(out, v, creds, …)            // out carries our signature, and a body that verifies on the way
//	…                                                // send out
//	err = v.BodyErr()                                // was the body what was signed?
//
// It knows SigV4 and SigV4A in the Authorization header and in the query, S3
// POST forms, bodies covered by a hash, by signed chunks with and without
// trailer, by signed events, or not at all. Everything else (Signature
// Versions 2 and 3, unknown algorithms, other kinds of authentication) is
// refused by name.
//
// An S3 POST form carries its signature in the body. Where Parse returns
// [ErrNoSignature] and [IsPost] says that it may be one, [ParsePost] takes the place
// of Parse; the rest is the same. What such a form does (bucket, key, fields) is in
// Signature.Post.
//
// # What Verify promises
//
//   - The signature is that of the request as received: method, RequestURI byte
//     for byte, Host, ContentLength and signed headers, at a time within the skew
//     (or the lifetime of a presigned URL or POST policy).
//   - Host and every X-Amz-* header are covered, except X-Amz-Security-Token,
//     which some clients add after signing, and X-Amz-Content-Sha256 outside of S3's
//     header form, whose value is part of what is signed anyway.
//   - No signed header belongs to the connection or is nominated by the Connection
//     header, so that no proxy drops it on the way.
//   - There is one signature, one token, and nothing said twice.
//   - The whole signature is compared, in constant time.
//
// Of the body it promises nothing yet, except where the hash is not in the head
// (PayloadAbsent): then the body was read and is what was signed. In all other
// cases the body is verified while it is read. A body that is not what was signed
// is never completed: of a body with a hash the end is withheld until the hash is
// right; of chunks and events each is withheld until its signature is right, and
// the final chunk until the trailer, the total length and the end of the body are;
// and then reading fails, so that net/http breaks the connection upstream instead
// of ending the request. UNSIGNED-PAYLOAD, STREAMING-UNSIGNED-PAYLOAD-TRAILER and
// the file of a POST form are covered by no signature and pass as they are.
//
// # What the caller must do
//
//   - Look the secret up by AccessKeyID and SecurityToken together. Verify compares
//     the token with the one in Secret.
//   - Compare Service and Region with the host. A signature for another service is
//     a good signature.
//   - Change nothing of r between Parse and Verify.
//   - Decide about a body only after [Verified.Buffer], which returns what the chunks
//     hold, or decide without it.
//   - Give Resign the request that the transport will send. The transport must not
//     decompress, follow redirects or add headers that are signed. Resign compares
//     method, target and signed headers with what was verified, and refuses the rest.
//   - Heed BodyErr after the transfer: an upstream may answer before it has seen
//     the whole body.
//   - Not forward HTTP trailers (Request.Trailer): no signature covers them.
//   - Keep Error.CanonicalRequest and StringToSign out of logs. They quote the
//     request, and with it the client's session token.
//
// # Several canonical forms
//
// Signers disagree about the canonical request where AWS's documentation and
// practice do: whether paths outside of S3 are normalised, whether a query is
// encoded again before it is sorted, whether tabs fold. Verify tries the documented
// form first and then the others ([Signature] does not tell which matched; Resign
// uses the same, so that AWS accepts from here what it would have accepted from the
// client).
//
// Accepting more than one form could let one signature stand for two requests. It
// does not, beyond what SigV4 itself leaves open. Let C be the canonical request
// that was signed. Each form f maps a request to f(request), and the requests that
// C can stand for are those with f(request) = C for any of the forms.
//
//   - Queries: one form decodes and encodes each pair again, one sorts the pairs
//     as sent, one takes them as sent. Whatever query maps to C by any of them decodes
//     to the same pairs as C itself: the first by its definition (its output decodes
//     to what the input did), the others because they only permute. So all queries
//     accepted for C have the same decoded pairs; order between pairs, and k for k=,
//     are what SigV4 never covers. Escapes that are none have no encoded form, so no
//     decoding is guessed.
//   - Paths of S3: as sent, or each segment decoded and encoded again. Both decode,
//     segment by segment, to the segments of C. An encoded slash is never a separator.
//   - Paths of other services: encoded once more, as sent or after normalising. If C
//     holds a path that is not normal, only the path as sent maps to it, one path. If C
//     holds a normal path, the paths accepted are those that normalise to it, which the
//     documented form alone accepts as well. That normalising is many-to-one is SigV4's
//     own; the policy must judge the path as sent, which is also what goes out.
//   - White space in header values: folded with or without tabs. If C holds a tab,
//     only the form that keeps tabs reaches it; if not, the accepted values are those
//     that the documented form accepts.
//   - The token of a presigned URL may be left out of C, as IoT demands. It decides
//     which secret is used, and its value is compared with that of the secret.
//
// # Outgoing requests
//
// Resign signs with a fresh date in the form, scope and algorithm of the client. It
// covers every header that the client covered, and those that carry meaning even
// where the client did not (X-Amz-*, Content-*, If-*, Range, Cache-Control, Expires).
// A Content-Length of zero is covered only where net/http sends it. SigV4A signatures
// are made as in RFC 6979, so that the result depends on nothing but the request,
// the credentials and the clock. Chunk and event framing, sizes and Content-Length
// stay as they are; only a POST form changes length, by its policy and token.
//
// # Memory
//
// Of a chunk-signed body one chunk is held, of an event stream one event (their
// signatures come before or within them), of a POST form the fields before the
// file; a hashed or unsigned body is not held at all. Buffers grow with what
// arrives, not with what is announced. [VerifyOptions] sets the limits, and Reserve
// lets the caller account for whole bodies.
package signer
