"""Print the hosts of AWS API endpoints, from botocore's rule sets.

Each output line is: host template, signing name, signing region, models,
partitions; sorted. In templates "{region}" is a region label and "{dns}" and
"{dual}" are the suffixes of the partition. A signing region of "{region}" is
that label; "*" means that any region of the partition may sign.
"""

import itertools
import json
import os
import re
import sys
from urllib.parse import urlsplit

import botocore
from botocore.endpoint_provider import EndpointProvider
from botocore.exceptions import EndpointProviderError
from botocore.loaders import Loader


ACCOUNT = "111122223333"


def signing_name(model):
    meta = model["metadata"]
    return meta.get("signingName", meta["endpointPrefix"])


def extra_parameters(name, rules):
    """Parameter sets, beside region, FIPS and dual-stack, that lead to fixed hosts."""
    declared = rules["parameters"]
    sets = [{}]
    if "UseGlobalEndpoint" in declared:
        sets = [{"UseGlobalEndpoint": v} for v in (False, True)]
    if name == "s3":
        sets += [
            {"Accelerate": True, "Bucket": "bucket"},
            {"UseObjectLambdaEndpoint": True, "Bucket": "x"},
            {"UseS3ExpressControlEndpoint": True, "Bucket": "b--use1-az1--x-s3", "DisableS3ExpressSessionAuth": True},
        ]
    if name == "s3control":
        sets = [{"RequiresAccountId": False}, {"RequiresAccountId": False, "OutpostId": "op-1"},
                {"RequiresAccountId": True, "AccountId": ACCOUNT}]
    if "AccountIdEndpointMode" in declared or name == "dynamodbstreams":
        sets += [{"AccountId": ACCOUNT, "AccountIdEndpointMode": "required"}]
    if name == "kinesis":
        sets += [{"StreamARN": "arn:%%s:kinesis:%%s:%s:stream/s" % ACCOUNT, "OperationType": t} for t in ("control", "data")]
    if name == "cloudfront-keyvaluestore":
        sets = [{"KvsARN": "arn:%%s:cloudfront::%s:key-value-store/00000000-0000-0000-0000-000000000000" % ACCOUNT}]
    if "ApiType" in declared:
        sets = [{"ApiType": v} for v in ("ControlPlane", "DataPlane")]
    if "UseControlPlaneEndpoint" in declared:
        sets = [{"UseControlPlaneEndpoint": v} for v in (False, True)]
    return sets


class Table:
    def __init__(self, partitions):
        self.partitions = partitions
        self.rows = {}
        self.region_of = {}
        for p in partitions:
            for r in p["regions"]:
                if not r.endswith("-global"):
                    self.region_of[r] = p["id"]
        self.suffixes = sorted(
            {(p["outputs"][k], t) for p in partitions
             for k, t in (("dnsSuffix", "{dns}"), ("dualStackDnsSuffix", "{dual}"))},
            key=lambda s: -len(s[0]))

    def add(self, host, name, region, model, partition):
        host = host.lower().replace(ACCOUNT, "{account}", 1)
        if not re.fullmatch(r"(\{account\}\.)?[a-z0-9.-]+", host):
            return
        labels = host.split(".")
        found = [l for l in labels if self.region_of.get(l) == partition]
        key, sign = host, region
        if len(found) == 1:
            for suffix, token in self.suffixes:
                if host.endswith("." + suffix):
                    stem = host[: -len(suffix) - 1]
                    key = ".".join("{region}" if l == found[0] else l for l in stem.split(".")) + "." + token
                    sign = "{region}" if region == found[0] else region
                    break
            if sign != "{region}":  # a regional name that another region signs
                key = host
        if region == "*":
            sign = "*"
        row = self.rows.setdefault((key, name, sign), (set(), set()))
        row[0].add(model)
        row[1].add(partition)

    def template(self, host):
        for suffix, token in self.suffixes:
            if host.endswith("." + suffix):
                stem = host[: -len(suffix) - 1].split(".")
                return ".".join("{region}" if l in self.region_of else l for l in stem) + "." + token
        return host

    def lines(self):
        merged = {}
        self.templates = {(k, p) for k, _, s in self.rows if s == "{region}" for p in self.rows[k, _, s][1]}
        for (key, name, sign), (models, partitions) in self.rows.items():
            if "{region}" not in key:
                # The rule sets also lead other partitions to names without a
                # region; such a name belongs to the first partition.
                if "aws" not in partitions and any(
                        k == key and n == name and "aws" in p for (k, n, _), (_, p) in self.rows.items()):
                    continue
            if sign != "{region}" and any((self.template(key), p) in self.templates for p in partitions):
                continue  # the template says so already
            row = merged.setdefault((key, name), (set(), set(), set()))
            row[0].add(sign)
            row[1].update(models)
            row[2].update(partitions)
        for (key, name), (signs, models, partitions) in sorted(merged.items()):
            sign = signs.pop() if len(signs) == 1 else "*"
            yield "\t".join((key, name, sign, ",".join(sorted(models)), ",".join(sorted(partitions))))


def static_prefixes(model):
    out = set()
    for op in model["operations"].values():
        prefix = op.get("endpoint", {}).get("hostPrefix", "")
        if prefix and "{" not in prefix:
            out.add(prefix)
    return sorted(out)


def rule_set_hosts(table, loader, models, partition_data):
    regions = [(r, p["id"]) for p in partition_data["partitions"] for r in sorted(p["regions"])]
    for name in sorted(loader.list_available_services("endpoint-rule-set-1")):
        rules = loader.load_service_model(name, "endpoint-rule-set-1")
        provider = EndpointProvider(rules, partition_data)
        declared = rules["parameters"]
        model = models[name]
        if model["metadata"].get("signatureVersion") == "v2":
            continue
        default_name = signing_name(model)
        prefixes = [""] + static_prefixes(model)
        for (region, partition), fips, dual, extra in itertools.product(
                regions, (False, True), (False, True), extra_parameters(name, rules)):
            extra = dict(extra)
            if "StreamARN" in extra:
                extra["StreamARN"] %= (partition, region)
            if "KvsARN" in extra:
                extra["KvsARN"] %= partition
            params = {"Region": region, "UseFIPS": fips, "UseDualStack": dual, **extra}
            params = {k: v for k, v in params.items() if k in declared}
            try:
                endpoint = provider.resolve_endpoint(**params)
            except EndpointProviderError:
                continue
            host = urlsplit(endpoint.url).hostname
            if ".signin." in "." + host:
                continue  # sign-in pages, not an API that signs
            if extra.get("Bucket") and host.startswith(extra["Bucket"] + "."):
                host = host[len(extra["Bucket"]) + 1:]
            if extra.get("UseS3ExpressControlEndpoint") and not host.startswith("s3express-control"):
                continue
            if extra.get("UseObjectLambdaEndpoint") and "s3-object-lambda" not in host:
                continue
            schemes = endpoint.properties.get("authSchemes") or [{}]
            scheme = next((s for s in schemes if s.get("name", "sigv4").startswith("sigv4")
                           and not s.get("name", "").startswith("sigv4a")), schemes[0])
            sign = scheme.get("signingName", default_name)
            sign_region = scheme.get("signingRegion")
            if sign_region is None:
                sign_region = region
                if region.endswith("-global"):
                    outputs = next(p["outputs"] for p in partition_data["partitions"] if p["id"] == partition)
                    sign_region = outputs.get("implicitGlobalRegion", region)
                    labels = host.split(".")
                    sign_region = next((l for l in labels if table.region_of.get(l) == partition), sign_region)
            # The pseudo-region is not a label that DNS serves.
            if any(l.endswith("-global") and l != "s3-global" for l in host.split(".")):
                continue
            schemes = {s.get("name") for s in schemes}
            if name == "s3" and not any(l in table.region_of for l in host.split(".")):
                sign_region = "*"  # a bucket's own region signs there
            if schemes == {"sigv4a"}:
                sign_region = "*"
            for prefix in prefixes:
                table.add(prefix + host, sign, sign_region, name, partition)


def legacy_hosts(table, models, endpoints):
    """endpoints.json: what the SDKs before rule sets called, and what certificates name."""
    by_prefix = {}
    for name, model in models.items():
        by_prefix.setdefault(model["metadata"]["endpointPrefix"], []).append(name)
    for partition in endpoints["partitions"]:
        pid = partition["partition"]
        for prefix, service in partition["services"].items():
            names = by_prefix.get(prefix)
            if not names or prefix in ("s3", "s3-control", "execute-api"):
                continue  # S3's shapes are in code
            merged = {**partition["defaults"], **service.get("defaults", {})}
            for region, entry in service.get("endpoints", {}).items():
                e = {**merged, **entry}
                hosts = [(e["hostname"], partition["dnsSuffix"])]
                if "sslCommonName" in e and region in table.region_of:
                    hosts.append((e["sslCommonName"], partition["dnsSuffix"]))
                merged_variants = {}
                for source in (partition["defaults"], service.get("defaults", {}), entry):
                    for v in source.get("variants", []):
                        merged_variants.setdefault(tuple(sorted(v["tags"])), {}).update(v)
                own = {tuple(sorted(v["tags"])) for v in entry.get("variants", [])}
                for tags in own:
                    v = merged_variants[tags]
                    if "hostname" in v:
                        hosts.append((v["hostname"], v.get("dnsSuffix", partition["dnsSuffix"])))
                if region not in table.region_of and "hostname" not in entry:
                    continue
                scope = e.get("credentialScope", {})
                for host, dns in hosts:
                    host = host.format(service=prefix, region=region, dnsSuffix=dns)
                    labels = host.split(".")
                    in_host = next((l for l in labels if table.region_of.get(l) == pid), None)
                    sign_region = scope.get("region") or in_host
                    if sign_region is None and region in table.region_of:
                        sign_region = region
                    if sign_region is None or any(l.endswith("-global") for l in labels):
                        continue
                    for name in names:
                        if models[name]["metadata"].get("signatureVersion") == "v2":
                            continue
                        sign = scope.get("service", signing_name(models[name]))
                        if sign != signing_name(models[name]):
                            continue
                        for p in [""] + static_prefixes(models[name]):
                            table.add(p + host, sign, sign_region, name, pid)


def older_hosts(table, models, endpoints, partition_data):
    """Services that only the older SDK has: the default pattern of their prefix."""
    known = {p["partition"]: p["services"] for p in endpoints["partitions"]}
    for name, model in models.items():
        prefix = model["metadata"]["endpointPrefix"]
        for p in partition_data["partitions"]:
            pid = p["id"]
            listed = known.get(pid, {}).get(prefix, {}).get("endpoints")
            if listed is None and pid != "aws":
                continue
            for region in sorted(p["regions"]):
                if region.endswith("-global"):
                    continue
                table.add("%s.%s.%s" % (prefix, region, p["outputs"]["dnsSuffix"]), signing_name(model), region, name, pid)


def main():
    older_dir = sys.argv[1]
    loader = Loader()
    data = os.path.join(os.path.dirname(botocore.__file__), "data")
    with open(os.path.join(data, "partitions.json")) as f:
        partition_data = json.load(f)
    with open(os.path.join(data, "endpoints.json")) as f:
        endpoints = json.load(f)
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    from models import all_models
    found = list(all_models(older_dir))
    models = {name: model for name, model, _ in found}
    newer = {name: model for name, model, origin in found if origin == "botocore"}
    older = {name: model for name, model, origin in found if origin != "botocore"}
    table = Table(partition_data["partitions"])
    rule_set_hosts(table, loader, newer, partition_data)
    legacy_hosts(table, models, endpoints)
    older_hosts(table, {n: m for n, m in older.items() if m["metadata"].get("signatureVersion") != "v2"}, endpoints, partition_data)
    for line in table.lines():
        print(line)


if __name__ == "__main__":
    main()
