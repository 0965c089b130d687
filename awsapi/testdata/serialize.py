"""Print every operation of every service as the request that botocore sends.

One JSON object a line: service, operation, protocol, variant, method, url,
headers, body (base64), or error where botocore could not build the request.
With arguments, only those services are printed. Nothing is sent.
"""

import base64
import datetime
import json
import sys

import botocore
import botocore.session
from botocore import UNSIGNED, xform_name
from botocore.config import Config
from botocore.model import ServiceModel

ACCOUNT = "111122223333"


class Captured(Exception):
    pass


class Values:
    """Parameters made from a model: the required ones, or all down to a depth."""

    def __init__(self, service, everything):
        self.service, self.everything = service, everything

    def of(self, shape, name="", depth=0):
        kind = shape.type_name
        if kind == "structure":
            return self.structure(shape, depth)
        if kind == "list":
            n = max(shape.metadata.get("min", 1), 1)
            if depth > 5 and not shape.metadata.get("min") or depth > 12:
                return []
            return [self.of(shape.member, name, depth + 1) for _ in range(min(n, 3))] if n <= 3 else [
                self.of(shape.member, name, depth + 1)] * n
        if kind == "map":
            if depth > 5:
                return {}
            return {self.of(shape.key, "key", depth + 1): self.of(shape.value, "value", depth + 1)}
        if kind == "string":
            return self.string(shape, name)
        if kind == "blob":
            return b"b" * max(shape.metadata.get("min", 1), 1)
        if kind == "boolean":
            return True
        if kind == "timestamp":
            return datetime.datetime(2024, 1, 2, 3, 4, 5)
        if kind in ("float", "double"):
            return float(max(shape.metadata.get("min", 1), 1))
        return int(max(shape.metadata.get("min", 1), 1))

    def structure(self, shape, depth):
        if getattr(shape, "is_document_type", False):
            return {"a": "b"}
        out = {}
        if depth > 20:
            return out
        if getattr(shape, "is_tagged_union", False) and depth > 3:
            scalar = [n for n, m in shape.members.items() if m.type_name not in ("structure", "list", "map")]
            for name in scalar[:1]:
                return {name: self.of(shape.members[name], name, depth + 1)}
        for name, member in shape.members.items():
            required = name in shape.required_members or member.serialization.get("location") == "uri"
            if getattr(member, "is_eventstream", False) or member.serialization.get("eventstream"):
                continue
            if required or self.everything and depth < 3 and self.wanted(shape, name, member):
                out[name] = self.of(member, name, depth + 1)
            if getattr(shape, "is_tagged_union", False) and out:
                break
        if getattr(shape, "is_tagged_union", False) and not out and shape.members:
            name = next(iter(shape.members))
            out[name] = self.of(shape.members[name], name, depth + 1)
        return out

    def wanted(self, shape, name, member):
        if self.service in ("s3", "s3control"):
            return False  # S3's optional members choose other operations, and have tests of their own
        return not name.lower().endswith("endpoint") and member.type_name != "blob"

    def string(self, shape, name):
        if shape.enum:
            return shape.enum[0]
        n = name.lower()
        if n.endswith("arn") or n.endswith("arns"):
            value = "arn:aws:%s:us-east-1:%s:thing/x" % (self.service, ACCOUNT)
            if self.service == "kinesis":
                value = "arn:aws:kinesis:us-east-1:%s:stream/x" % ACCOUNT
                if n == "consumerarn":
                    value += "/consumer/x:1"
            if self.service == "cloudfront-keyvaluestore":
                value = "arn:aws:cloudfront::%s:key-value-store/00000000-0000-0000-0000-000000000000" % ACCOUNT
            value = value.ljust(shape.metadata.get("min", 1), "x")
        elif n in ("accountid", "awsaccountid") or n.endswith("accountid"):
            value = ACCOUNT
        elif n == "endpointid" and self.service == "events":
            value = "abcde.veo"  # always two labels
        elif n == "predictendpoint":
            value = "https://realtime.machinelearning.us-east-1.amazonaws.com"
        elif n == "bucket":
            value = "bucket-one"
        elif n == "copysource":
            value = "bucket-two/key"
        else:
            value = "x" * max(shape.metadata.get("min", 1), 3)
        return value


def main():
    session = botocore.session.Session()
    session.set_credentials("AKIDEXAMPLE", "secret")
    forced = {}
    resolved = ServiceModel.resolved_protocol

    def protocol(self):
        return forced.get(self.service_name) or resolved.fget(self)

    ServiceModel.resolved_protocol = property(protocol)
    from botocore.parsers import PROTOCOL_PARSERS
    for service in sys.argv[1:] or session.get_available_services():
        model = session.get_service_model(service)
        listed = model.metadata.get("protocols", [model.metadata["protocol"]])
        for p in [p for p in listed if p in PROTOCOL_PARSERS]:
            forced.clear()
            forced[service] = p
            emit(session, service, p)


def emit(session, service, protocol):
    config = Config(signature_version=UNSIGNED, retries={"total_max_attempts": 1}, parameter_validation=True, endpoint_discovery_enabled=False,
                    request_min_compression_size_bytes=1048576)
    kwargs = {}
    if service == "cloudsearchdomain":
        kwargs["endpoint_url"] = "https://search-x.us-east-1.cloudsearch.amazonaws.com"
    if service in ("importexport", "sdb"):
        return  # these are signed with SigV2 alone
    client = session.create_client(service, region_name="us-east-1", config=config, **kwargs)
    held = []

    def capture(request, **_):
        held.append(request)
        raise Captured()

    client.meta.events.register("before-send", capture)
    for name in client.meta.service_model.operation_names:
        operation = client.meta.service_model.operation_model(name)
        for variant in ("required", "all"):
            shape = operation.input_shape
            params = Values(service, variant == "all").structure(shape, 0) if shape else {}
            line = {"service": service, "operation": name, "protocol": protocol, "variant": variant}
            del held[:]
            try:
                getattr(client, xform_name(name))(**params)
            except Captured:
                pass
            except Exception as e:  # reported, and counted by the test
                line["error"] = "%s: %s" % (type(e).__name__, str(e)[:200])
            if held:
                r = held[0]
                body = r.body
                if hasattr(body, "read"):
                    body = body.read()
                if isinstance(body, str):
                    body = body.encode()
                line.pop("error", None)
                line.update(method=r.method, url=r.url, body=base64.b64encode(body or b"").decode(),
                            headers=[[k, v.decode() if isinstance(v, bytes) else str(v)] for k, v in r.headers.items()])
            print(json.dumps(line))


if __name__ == "__main__":
    main()
