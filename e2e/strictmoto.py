"""moto behind a signature check as strict as AWS's own.

moto answers every AWS API but believes any signature. This server verifies
each request before moto sees it: Signature Version 4 in header and query form,
payload hash, clock skew, expiry, session token, credential scope against the
host, aws-chunked framing with its chunk signatures and trailing checksums, and
that every x-amz-* header is signed. The path and header rules are botocore's;
nothing here shares code with the proxy under test.

It starts with one IAM user, prints one JSON line saying where it listens and
that user's access key, records every request that arrived, and ends when its
standard input does.

    strictmoto.py --cert server.pem --key server.key

Requests whose Host is "strict.invalid" are for the test and not for AWS:
GET /log?since=N, GET /mark, GET /secrets, GET /keys.
"""
import argparse
import base64
import binascii
import datetime
import hashlib
import hmac
import io
import json
import os
import re
import ssl
import sys
import threading
from urllib.parse import parse_qsl, quote, unquote

from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.compat import HTTPHeaders
from botocore.credentials import Credentials
from moto.core import DEFAULT_ACCOUNT_ID
from moto.core.responses import ActionResult
from moto.iam.models import iam_backends
from moto.moto_server.werkzeug_app import (
    DomainDispatcherApplication,
    create_backend_app,
)
from moto.sts.models import sts_backends
from moto.sts.responses import TokenResponse
from moto.sts.utils import random_session_token
from werkzeug.serving import ThreadedWSGIServer, WSGIRequestHandler

ADMIN_HOST = "strict.invalid"
MAX_SKEW = 900
MAX_EXPIRES = 604800
MIN_CHUNK = 8192
S3_FAMILY = ("s3", "s3express", "s3-outposts", "s3-object-lambda")
EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()
HEX_SHA256 = re.compile(r"[0-9a-f]{64}")
REGIONAL_HOST = re.compile(
    r"(?:[\w.-]+\.)?((?!dualstack\.)[a-z0-9-]+)(?:\.dualstack)?\.([a-z]{2}(?:-[a-z]+)+-\d)\.amazonaws\.com"
)
GLOBAL_HOSTS = {
    "iam.amazonaws.com": "iam",
    "s3.amazonaws.com": "s3",
    "sts.amazonaws.com": "sts",
}
# Roles of this name are refused by sts:AssumeRole, as a trust policy would.
REFUSED_ROLE = ":role/Refused"


class Refused(Exception):
    """The request is not acceptable; code is what AWS would answer."""

    def __init__(self, code, message=""):
        super().__init__(message or code)
        self.code = code


class Key:
    """What this server knows of one access key id."""

    def __init__(self, arn, secret, token=None, expires=None):
        self.arn = arn
        self.secret = secret
        self.token = token
        self.expires = expires


# Sessions of GetSessionToken and GetFederationToken, by access key id.
SESSIONS = {}


def hand_out_sessions(operation):
    """Make moto answer an operation with a session of its own each time.

    It answers these with the keys of an example, always the same.
    """
    original = getattr(TokenResponse, operation)

    def answer(response):
        result = original(response).result
        made = iam_backends[DEFAULT_ACCOUNT_ID]["aws"].create_temp_access_key()
        token = random_session_token()
        user = result.get("FederatedUser")
        SESSIONS[made.access_key_id] = Key(
            user["Arn"] if user else find_key(response.access_key).arn,
            made.secret_access_key,
            token,
            result["Credentials"]["Expiration"],
        )
        result["Credentials"].update(
            AccessKeyId=made.access_key_id,
            SecretAccessKey=made.secret_access_key,
            SessionToken=token,
        )
        return ActionResult(result)

    setattr(TokenResponse, operation, answer)


def known_keys():
    """Yield (access key id, Key) of every user and session."""
    yield from list(SESSIONS.items())
    for partitions in list(sts_backends.values()):
        for backend in list(partitions.values()):
            for role in list(backend.assumed_roles):
                yield role.access_key_id, Key(
                    role.arn,
                    role.secret_access_key,
                    role.session_token,
                    role.expiration,
                )
    for partitions in list(iam_backends.values()):
        for backend in list(partitions.values()):
            for user in list(backend.users.values()):
                for key in user.access_keys:
                    yield key.access_key_id, Key(
                        user.arn, key.secret_access_key
                    )


def find_key(access_key_id):
    for known, key in known_keys():
        if hmac.compare_digest(known, access_key_id):
            return key
    raise Refused("InvalidClientTokenId", "unknown key " + access_key_id)


class Request:
    """One request as it arrived, before anything was interpreted."""

    def __init__(self, environ, body):
        self.method = environ["REQUEST_METHOD"]
        target = environ["strict.target"]
        if not target.startswith("/"):
            raise Refused("MalformedRequest", "absolute-form target")
        self.target = target
        self.path, _, self.query = target.partition("?")
        self.header_list = environ["strict.headers"]
        self.headers = {}
        for name, value in self.header_list:
            name = name.lower()
            value = " ".join(value.split())
            if name in self.headers:
                value = self.headers[name] + "," + value
            self.headers[name] = value
        self.body = body

    def params(self, prefix=""):
        """Return the query parameters that start with prefix, each once."""
        found = {}
        for name, value in query_pairs(self.query):
            if name.lower().startswith(prefix):
                if name in found:
                    raise Refused("InvalidRequest", "twice: " + name)
                found[name] = value
        return found


def query_pairs(query):
    for pair in query.split("&") if query else []:
        name, _, value = pair.partition("=")
        yield unquote(name), unquote(value)


class Signature:
    """The signature material of a request, whichever form it came in."""

    def __init__(self, request):
        authorization = request.headers.get("authorization")
        params = request.params("x-amz-")
        if authorization and "X-Amz-Signature" in params:
            raise Refused("InvalidArgument", "only one authentication allowed")
        if authorization:
            self._from_header(request, authorization)
        elif "X-Amz-Signature" in params:
            self._from_query(params)
        else:
            raise Refused("MissingAuthenticationToken")
        try:
            (self.access_key_id, self.day, self.region, self.service,
             terminator) = self.credential.rsplit("/", 4)
            self.time = datetime.datetime.strptime(
                self.timestamp, "%Y%m%dT%H%M%SZ"
            )
        except ValueError as error:
            raise Refused("IncompleteSignature", str(error)) from None
        if terminator != "aws4_request" or self.day != self.timestamp[:8]:
            raise Refused("SignatureDoesNotMatch", "credential scope")

    def _from_header(self, request, authorization):
        scheme, _, rest = authorization.partition(" ")
        if scheme != "AWS4-HMAC-SHA256":
            raise Refused("IncompleteSignature", "algorithm " + scheme)
        try:
            parts = dict(p.strip().split("=", 1) for p in rest.split(","))
            self.credential = parts.pop("Credential")
            self.signed = parts.pop("SignedHeaders").split(";")
            self.value = parts.pop("Signature")
        except (ValueError, KeyError) as error:
            raise Refused("IncompleteSignature", str(error)) from None
        if parts:
            raise Refused("IncompleteSignature", "more: %s" % list(parts))
        self.presigned = False
        self.expires = None
        self.timestamp = request.headers.get("x-amz-date", "")
        self.token = request.headers.get("x-amz-security-token")

    def _from_query(self, params):
        try:
            if params["X-Amz-Algorithm"] != "AWS4-HMAC-SHA256":
                raise Refused("IncompleteSignature", "algorithm")
            self.credential = params["X-Amz-Credential"]
            self.signed = params["X-Amz-SignedHeaders"].split(";")
            self.value = params["X-Amz-Signature"]
            self.timestamp = params["X-Amz-Date"]
            self.expires = int(params["X-Amz-Expires"])
        except (ValueError, KeyError) as error:
            raise Refused("IncompleteSignature", str(error)) from None
        self.presigned = True
        self.token = params.get("X-Amz-Security-Token")

    @property
    def scope(self):
        return "/".join((self.day, self.region, self.service, "aws4_request"))


class _Signer:
    """botocore's canonical form of a request that has already been signed."""

    def __init__(self, request, signature, key, payload_hash):
        self.request = request
        self.signature = signature
        self.payload_hash = payload_hash
        family = signature.service in S3_FAMILY
        credentials = Credentials(
            signature.access_key_id, key.secret, signature.token
        )
        self.auth = (S3SigV4Auth if family else SigV4Auth)(
            credentials, signature.service, signature.region
        )
        self.raw_path = family

    def canonical_request(self):
        path = self.request.path
        if not self.raw_path:
            path = self.auth._normalize_url_path(path)
        headers = HTTPHeaders()
        for name in self.signature.signed:
            headers[name] = self.request.headers.get(name, "")
        return "\n".join([
            self.request.method,
            path,
            self._canonical_query(),
            self.auth.canonical_headers(headers) + "\n",
            ";".join(self.signature.signed),
            self.payload_hash,
        ])

    def _canonical_query(self):
        return "&".join(
            "%s=%s" % pair
            for pair in sorted(
                (quote(name, safe="-_.~"), quote(value, safe="-_.~"))
                for name, value in query_pairs(self.request.query)
                if not (self.signature.presigned and name == "X-Amz-Signature")
            )
        )

    def sign(self, string_to_sign):
        request = AWSRequest()
        request.context["timestamp"] = self.signature.timestamp
        return self.auth.signature(string_to_sign, request)

    def check(self):
        canonical = self.canonical_request()
        request = AWSRequest()
        request.context["timestamp"] = self.signature.timestamp
        expected = self.sign(self.auth.string_to_sign(request, canonical))
        if not hmac.compare_digest(expected, self.signature.value):
            raise Refused("SignatureDoesNotMatch", canonical)


def check_head(request, signature, key):
    """Check all that can be said without the body or the secret."""
    if (key.token or None) != (signature.token or None):
        raise Refused("InvalidToken", "the session token is not the key's")
    now = datetime.datetime.now(datetime.timezone.utc).replace(tzinfo=None)
    expires = key.expires
    if expires and now > expires.replace(tzinfo=None):
        raise Refused("ExpiredToken", "the role session has expired")
    age = (now - signature.time).total_seconds()
    if not signature.presigned and abs(age) > MAX_SKEW:
        raise Refused("RequestTimeTooSkewed")
    if signature.presigned and not (
        -MAX_SKEW < age <= signature.expires
        and 0 < signature.expires <= MAX_EXPIRES
    ):
        raise Refused("AccessDenied", "Request has expired")
    if signature.signed != sorted(set(signature.signed)):
        raise Refused("SignatureDoesNotMatch", "SignedHeaders is not sorted")
    if "host" not in signature.signed:
        raise Refused("SignatureDoesNotMatch", "host is not signed")
    for name in request.headers:
        if name.startswith("x-amz-") and name not in signature.signed:
            raise Refused(
                "AccessDenied", "headers present but not signed: " + name
            )
    for name in signature.signed:
        if name not in request.headers:
            raise Refused("SignatureDoesNotMatch", "not present: " + name)
    check_host(request.headers["host"], signature)


def check_host(host, signature):
    match = REGIONAL_HOST.fullmatch(host)
    if match:
        service, region = match.groups()
        if region != signature.region:
            raise Refused("SignatureDoesNotMatch", "region is not the host's")
    elif host in GLOBAL_HOSTS:
        service = GLOBAL_HOSTS[host]
    elif host.endswith(".s3.amazonaws.com"):
        service = "s3"
    else:
        return
    if service != signature.service:
        raise Refused("SignatureDoesNotMatch", "service is not the host's")


def check_payload(request, signature, key):
    """Return the decoded body once everything about it has been verified."""
    declared = request.headers.get("x-amz-content-sha256")
    actual = hashlib.sha256(request.body).hexdigest()
    if declared is None:
        declared = actual
        if signature.presigned and signature.service in S3_FAMILY:
            declared = "UNSIGNED-PAYLOAD"
    elif HEX_SHA256.fullmatch(declared):
        if declared != actual:
            raise Refused("XAmzContentSHA256Mismatch")
    signer = _Signer(request, signature, key, declared)
    signer.check()
    if declared == "UNSIGNED-PAYLOAD" or HEX_SHA256.fullmatch(declared):
        return request.body
    return Chunked(request, signature, signer, declared).decode()


class Chunked:
    """The aws-chunked framing of one body, its signatures and trailer."""

    KINDS = {
        "STREAMING-UNSIGNED-PAYLOAD-TRAILER": (False, True),
        "STREAMING-AWS4-HMAC-SHA256-PAYLOAD": (True, False),
        "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER": (True, True),
    }

    def __init__(self, request, signature, signer, kind):
        if kind not in self.KINDS:
            raise Refused("NotImplemented", "payload " + kind)
        self.signed, self.has_trailer = self.KINDS[kind]
        self.request = request
        self.signature = signature
        self.signer = signer
        self.previous = signature.value
        encodings = request.headers.get("content-encoding", "").split(",")
        if encodings[0] != "aws-chunked" and kind != (
            "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
        ):
            raise Refused("InvalidRequest", "content-encoding")

    def decode(self):
        stream = io.BytesIO(self.request.body)
        chunks = []
        while True:
            line = self._line(stream)
            size, _, extension = line.partition(b";")
            try:
                size = int(size, 16)
            except ValueError:
                raise Refused("InvalidRequest", "chunk size") from None
            if size == 0 and self.has_trailer:
                # The last chunk of a body with a trailer has no data line.
                data = b""
            else:
                data = stream.read(size)
                if len(data) != size or stream.read(2) != b"\r\n":
                    raise Refused("IncompleteBody")
            self._check_chunk(extension, data)
            if size == 0:
                break
            if chunks and len(chunks[-1]) < MIN_CHUNK:
                raise Refused("InvalidChunkSizeError")
            chunks.append(data)
        body = b"".join(chunks)
        if self.has_trailer:
            self._check_trailer(stream, body)
        if stream.read(1):
            raise Refused("InvalidRequest", "bytes after the last chunk")
        want = self.request.headers.get("x-amz-decoded-content-length")
        if want != str(len(body)):
            raise Refused("IncompleteBody", "decoded length")
        return body

    @staticmethod
    def _line(stream):
        line = stream.readline(4096)
        if not line.endswith(b"\r\n"):
            raise Refused("IncompleteBody", "line end")
        return line[:-2]

    def _check_chunk(self, extension, data):
        if not self.signed:
            if extension:
                raise Refused("InvalidRequest", "chunk extension")
            return
        name, _, value = extension.decode().partition("=")
        expected = self.signer.sign("\n".join([
            "AWS4-HMAC-SHA256-PAYLOAD",
            self.signature.timestamp,
            self.signature.scope,
            self.previous,
            EMPTY_SHA256,
            hashlib.sha256(data).hexdigest(),
        ]))
        if name != "chunk-signature" or not hmac.compare_digest(
            expected, value
        ):
            raise Refused("SignatureDoesNotMatch", "chunk signature")
        self.previous = value

    def _check_trailer(self, stream, body):
        trailer = {}
        while True:
            line = self._line(stream).decode()
            if not line:
                break
            name, _, value = line.partition(":")
            trailer[name.strip().lower()] = value.strip()
        given = trailer.pop("x-amz-trailer-signature", None)
        declared = self.request.headers.get("x-amz-trailer", "").split(",")
        if sorted(trailer) != sorted(n.strip() for n in declared):
            raise Refused("MalformedTrailerError")
        if self.signed:
            text = "".join("%s:%s\n" % i for i in sorted(trailer.items()))
            expected = self.signer.sign("\n".join([
                "AWS4-HMAC-SHA256-TRAILER",
                self.signature.timestamp,
                self.signature.scope,
                self.previous,
                hashlib.sha256(text.encode()).hexdigest(),
            ]))
            if not hmac.compare_digest(expected, given or ""):
                raise Refused("SignatureDoesNotMatch", "trailer signature")
        for name, value in trailer.items():
            if value != checksum(name, body):
                raise Refused("BadDigest", name)


def checksum(header, body):
    """Return the value of an x-amz-checksum-* header for a body."""
    algorithm = header.rpartition("-")[2]
    if algorithm == "crc32":
        digest = binascii.crc32(body).to_bytes(4, "big")
    elif algorithm in ("sha1", "sha256"):
        digest = hashlib.new(algorithm, body).digest()
    else:
        raise Refused("NotImplemented", "checksum " + algorithm)
    return base64.b64encode(digest).decode()


def refuse_role(request, signature):
    """Refuse sts:AssumeRole of roles that stand for a closed trust policy."""
    if signature.service == "sts":
        form = dict(parse_qsl(request.body.decode("utf-8", "replace")))
        if REFUSED_ROLE in form.get("RoleArn", ""):
            raise Refused(
                "AccessDenied",
                "User is not authorized to perform: sts:AssumeRole on "
                "resource: " + form["RoleArn"],
            )


def error_response(environ, refusal):
    """Return (status, headers, body) in the shape of the call's protocol."""
    content_type = environ.get("CONTENT_TYPE") or ""
    authorization = environ.get("HTTP_AUTHORIZATION", "")
    code, message = refusal.code, str(refusal)
    if "json" in content_type:
        kind = "application/x-amz-json-1.0"
        body = json.dumps({"__type": code, "message": message})
    else:
        message = (
            message.replace("&", "&amp;").replace("<", "&lt;")
        )
        kind = "application/xml"
        body = "<Code>%s</Code><Message>%s</Message>" % (code, message)
        if "/s3/" in authorization:
            body = "<Error>%s</Error>" % body
        else:
            body = (
                "<ErrorResponse><Error><Type>Sender</Type>%s</Error>"
                "</ErrorResponse>" % body
            )
    body = body.encode()
    headers = [
        ("Content-Type", kind),
        ("x-amzn-ErrorType", code),
        ("Content-Length", str(len(body))),
    ]
    if environ["REQUEST_METHOD"] == "HEAD":
        body = b""
    return "403 Forbidden", headers, body


class Strict:
    """The WSGI application: record, verify, and only then ask moto."""

    def __init__(self, app):
        self.app = app
        self.log = []
        self.lock = threading.Lock()

    def __call__(self, environ, start_response):
        body = self._read(environ)
        if environ.get("HTTP_HOST", "").partition(":")[0] == ADMIN_HOST:
            return self._admin(environ, start_response)
        entry = {
            "method": environ["REQUEST_METHOD"],
            "host": environ.get("HTTP_HOST", ""),
            "target": environ["strict.target"],
            "headers": environ["strict.headers"],
            "body_length": len(body),
            "body_sha256": hashlib.sha256(body).hexdigest(),
            "access_key_id": "",
            "arn": "",
            "service": "",
            "region": "",
            "presigned": False,
            "refused": "",
        }
        length = environ.get("CONTENT_LENGTH")
        try:
            if length and len(body) != int(length):
                raise Refused("RequestTimeout", "the body was cut off")
            self._verify(Request(environ, body), entry)
        except Refused as refusal:
            entry["refused"] = "%s: %s" % (refusal.code, refusal)
            self._record(entry)
            status, headers, answer = error_response(environ, refusal)
            start_response(status, headers)
            return [answer]
        self._record(entry)
        environ["wsgi.input"] = io.BytesIO(body)
        environ["CONTENT_LENGTH"] = str(len(body))
        return self.app(environ, start_response)

    @staticmethod
    def _read(environ):
        length = environ.get("CONTENT_LENGTH")
        if length:
            return environ["wsgi.input"].read(int(length))
        if environ.get("wsgi.input_terminated"):
            return environ["wsgi.input"].read()
        return b""

    @staticmethod
    def _verify(request, entry):
        signature = Signature(request)
        entry.update(
            access_key_id=signature.access_key_id,
            service=signature.service,
            region=signature.region,
            presigned=signature.presigned,
        )
        key = find_key(signature.access_key_id)
        entry["arn"] = key.arn
        check_head(request, signature, key)
        check_payload(request, signature, key)
        refuse_role(request, signature)

    def _record(self, entry):
        with self.lock:
            entry["seq"] = len(self.log) + 1
            self.log.append(entry)

    def _admin(self, environ, start_response):
        path = environ.get("PATH_INFO", "")
        query = dict(parse_qsl(environ.get("QUERY_STRING", "")))
        status = "200 OK"
        if path == "/log":
            with self.lock:
                answer = self.log[int(query.get("since", 0)):]
        elif path == "/mark":
            answer = len(self.log)
        elif path == "/secrets":
            answer = sorted({
                text
                for _, key in known_keys()
                for text in (key.secret, key.token)
                if text
            })
        elif path == "/keys":
            answer = [
                {
                    "access_key_id": access_key_id,
                    "arn": key.arn,
                    "secret": key.secret,
                    "token": key.token or "",
                    "expires": key.expires.replace(
                        microsecond=0, tzinfo=None
                    ).isoformat() + "Z" if key.expires else None,
                }
                for access_key_id, key in known_keys()
            ]
        else:
            status, answer = "404 Not Found", {}
        body = json.dumps(answer).encode()
        start_response(status, [
            ("Content-Type", "application/json"),
            ("Content-Length", str(len(body))),
        ])
        return [body]


class Handler(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 120

    def handle_expect_100(self):
        """werkzeug sends 100 Continue; http.server would send another one before it."""
        return True

    def make_environ(self):
        environ = super().make_environ()
        # http.server folds leading slashes of self.path into one.
        target = self.raw_requestline.split()[1].decode("latin-1")
        environ["strict.target"] = target
        environ["strict.headers"] = [list(h) for h in self.headers.items()]
        return environ

    def log_request(self, *args):
        """Every request is in the log that /log serves."""


class Server(ThreadedWSGIServer):
    """Shakes hands in the connection's own thread, not in accept."""

    daemon_threads = True
    request_queue_size = 256
    tls = None

    def finish_request(self, request, client_address):
        if self.tls is None:
            super().finish_request(request, client_address)
            return
        try:
            secured = self.tls.wrap_socket(request, server_side=True)
        except OSError:
            return
        try:
            super().finish_request(secured, client_address)
            secured.unwrap()
        except OSError:
            pass
        finally:
            secured.close()


def create_user(name):
    backend = iam_backends[DEFAULT_ACCOUNT_ID]["aws"]
    backend.create_user("us-east-1", name)
    return backend.create_access_key(name)


def end_with_parent():
    sys.stdin.buffer.read()
    os._exit(0)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cert", required=True)
    parser.add_argument("--key", required=True)
    arguments = parser.parse_args()
    threading.Thread(target=end_with_parent, daemon=True).start()
    hand_out_sessions("get_session_token")
    hand_out_sessions("get_federation_token")
    user = create_user("source")
    app = Strict(DomainDispatcherApplication(create_backend_app))
    server = Server("127.0.0.1", 0, app, Handler)
    server.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.tls.load_cert_chain(arguments.cert, arguments.key)
    server.ssl_context = server.tls  # moto asks for wsgi.url_scheme
    print(json.dumps({
        "address": "127.0.0.1:%d" % server.server_port,
        "account": DEFAULT_ACCOUNT_ID,
        "access_key_id": user.access_key_id,
        "secret_access_key": user.secret_access_key,
    }), flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
