"""Print the operations of every service, and what each needs.

The output is a sequence of sections, one a model, sorted by name:

  S model signing-name protocols target-prefix json-version api-version shape iam-prefix base-path flags
  R arn-template                          resource types, numbered from 0
  Q query-key,…                           S3: every query key of the model
  O name method uri host-prefix flags query-keys headers tier
  N action types                          a permission of the operation above
  X member                                account that owns the resources
  P kind member…                          a role that is passed
  T shape member…                         tags that are set
  C condition-key member…                 a condition value

A member is where a value of the request is found, once for each wire form:
  u:LABEL  q:QUERY-KEY  h:HEADER  j:JSON.PATH  f:Form.#.Path  x:XML.PATH
types is a list of TYPE[!]=ALTERNATIVE|ALTERNATIVE…, where "!" marks a required
type and an alternative is "@member" for a whole ARN or "Var=member&Var=member".
"""

import json
import os
import re
import sys

from credentials import hands_out_keys, load as load_credentials
from models import all_models

HERE = os.path.dirname(os.path.abspath(__file__))
SCALARS = ("string", "integer", "long", "boolean", "float", "double", "timestamp")
DEPTH = 4


def norm(s):
    return re.sub(r"[^a-z0-9]", "", s.lower())


def singular(s):
    """The word that a list's name is the plural of, normalised; s itself when it is none."""
    for end, to in (("ies", "y"), ("sses", "ss"), ("ses", "se"), ("s", "")):
        if s.endswith(end) and len(s) > len(end) + 2:
            return s[: -len(end)] + to
    return s


class Member:
    """A leaf of an operation's input."""

    def __init__(self, path, wires, shape, required):
        self.path, self.wires, self.shape, self.required = path, wires, shape, required
        self.name = path[-1]
        self.norm = norm(self.name)
        self.is_list = shape["type"] == "list"

    def source(self):
        return ",".join(self.wires)


class Service:
    def __init__(self, name, model):
        self.name, self.model, self.meta = name, model, model["metadata"]
        self.protocols = protocols(self.meta)
        self.shapes = model["shapes"]

    def members(self, op):
        """Every leaf of the input down to DEPTH, the shallow ones first."""
        if "input" not in op:
            return []
        root = self.shapes[op["input"]["shape"]]
        out = []
        payload = root.get("payload")
        for name, ref in root.get("members", {}).items():
            shape = self.shapes[ref["shape"]]
            location = ref.get("location")
            wire = ref.get("locationName", name)
            required = name in root.get("required", ())
            if location == "uri":
                self.leaf(out, [name], ["u:" + wire], shape, required)
            elif location == "querystring":
                self.leaf(out, [name], ["q:" + wire], shape, required)
            elif location == "header":
                self.leaf(out, [name], ["h:" + wire.lower()], shape, required)
            elif location:
                continue  # headers and query strings of any name
            elif payload:
                if name == payload and shape["type"] == "structure":
                    self.body(out, [name], shape, {"j": "", "x": ""}, 1, ())
            else:
                self.body_member(out, [], name, ref, {"j": "", "f": "", "x": ""}, 0, (), required)
        out.sort(key=lambda m: len(m.path))
        return out

    def leaf(self, out, path, wires, shape, required):
        if shape["type"] in SCALARS or shape["type"] == "list" and self.shapes[shape["member"]["shape"]]["type"] in SCALARS:
            out.append(Member(path, wires, shape, required))

    def body(self, out, path, shape, at, depth, seen):
        for name, ref in shape.get("members", {}).items():
            if ref.get("location"):
                continue
            self.body_member(out, path, name, ref, at, depth, seen, False)

    def wire(self, at, name, ref):
        """The position of a member under a position, in each wire form."""
        json_name = ref.get("locationName", name)
        shape = self.shapes[ref["shape"]]
        form = ref.get("locationName", name)
        if "ec2" in self.protocols:
            form = ref.get("queryName") or (form[0].upper() + form[1:])
        flattened = shape.get("flattened") or ref.get("flattened")
        if "query" in self.protocols and shape["type"] == "list" and flattened:
            form = shape["member"].get("locationName", form)
        xml = ref.get("locationName", name)
        out = {}
        for kind, wire in (("j", json_name), ("f", form), ("x", xml)):
            if kind in at:
                out[kind] = at[kind] + ("." if at[kind] else "") + wire
        return out

    def into_list(self, at, ref):
        """The position of a list's elements, where at is that of the list."""
        shape = self.shapes[ref["shape"]]
        flattened = shape.get("flattened") or ref.get("flattened")
        inner = shape["member"].get("locationName", "member")
        out = dict(at)
        if "f" in at:
            if "ec2" in self.protocols or flattened:
                out["f"] = at["f"] + ".#"
            else:
                out["f"] = at["f"] + "." + inner + ".#"
        if "x" in at and not flattened:
            out["x"] = at["x"] + "." + inner
        return out

    def wires(self, at):
        kinds = set()
        for p in self.protocols:
            kinds.add({"json": "j", "rest-json": "j", "smithy-rpc-v2-cbor": "j", "query": "f", "ec2": "f", "rest-xml": "x"}[p])
        return ["%s:%s" % (k, at[k]) for k in "jfx" if k in at and k in kinds]

    def body_member(self, out, path, name, ref, at, depth, seen, required):
        if depth >= DEPTH or ref["shape"] in seen:
            return
        shape = self.shapes[ref["shape"]]
        kind = shape["type"]
        here = self.wire(at, name, ref)
        if kind in SCALARS:
            out.append(Member(path + [name], self.wires(here), shape, required))
        elif kind == "structure":
            self.body(out, path + [name], shape, here, depth + 1, seen + (ref["shape"],))
        elif kind == "list":
            inner_ref = shape["member"]
            inner = self.shapes[inner_ref["shape"]]
            at_list = self.into_list(here, ref)
            if inner["type"] in SCALARS:
                out.append(Member(path + [name], self.wires(at_list), shape, required))
            elif inner["type"] == "structure":
                self.body(out, path + [name], inner, at_list, depth + 1, seen + (ref["shape"],))

    def tags(self, op):
        """Where the tags are: ("pairs", [key, value]) or ("map", [map]) or ("keys", [keys])."""
        if "input" not in op:
            return
        root = self.shapes[op["input"]["shape"]]
        payload = root.get("payload")
        at = {"j": "", "f": "", "x": ""}
        members = root.get("members", {}).items()
        if payload and self.shapes[root["members"][payload]["shape"]]["type"] == "structure":
            inner = self.shapes[root["members"][payload]["shape"]].get("members", {}).items()
            members = list(members) + list(inner)
            at = {"j": "", "x": ""}
        for name, ref in members:
            n = norm(name)
            shape = self.shapes[ref["shape"]]
            location = ref.get("location")
            if n in ("tagkeys", "tagkeylist", "tagstoremove", "tagkeystoremove") and shape["type"] == "list" \
                    and self.shapes[shape["member"]["shape"]]["type"] == "string":
                if location == "querystring":
                    yield "keys", ["q:" + ref.get("locationName", name)]
                elif not location:
                    yield "keys", [",".join(self.wires(self.into_list(self.wire(at, name, ref), ref)))]
            if location:
                if location == "header" and n == "tagging":
                    yield "query", ["h:" + ref.get("locationName", name).lower()]
                continue
            if n in ("tags", "taglist", "tagset", "tagging", "tagmap", "resourcetags", "newtags", "tagstoadd", "addtags") and name != payload or n == "tags":
                here = self.wire(at, name, ref)
                if shape["type"] == "structure" and len(shape.get("members", {})) == 1:  # CloudFront: Tags{Items[…]}
                    inner_name, ref = next(iter(shape["members"].items()))
                    here = self.wire(here, inner_name, ref)
                    shape = self.shapes[ref["shape"]]
                if shape["type"] == "map":
                    if "j" in here:
                        yield "map", ["j:" + here["j"]]
                    if "query" in self.protocols:
                        flattened = shape.get("flattened") or ref.get("flattened")
                        base = here["f"] + (".#." if flattened else ".entry.#.")
                        yield "pairs", ["f:" + base + shape["key"].get("locationName", "key"), "f:" + base + shape["value"].get("locationName", "value")]
                elif shape["type"] == "list":
                    inner = self.shapes[shape["member"]["shape"]]
                    keys = [m for m in inner.get("members", {}) if norm(m) in ("key", "tagkey", "name")]
                    values = [m for m in inner.get("members", {}) if norm(m) in ("value", "tagvalue")]
                    if keys and values:
                        at_list = self.into_list(here, ref)
                        yield "pairs", [",".join(self.wires(self.wire(at_list, m[0], inner["members"][m[0]]))) for m in (keys, values)]
        if self.name == "ec2" and "TagSpecifications" in root.get("members", {}):
            name = root["members"]["TagSpecifications"].get("queryName") or root["members"]["TagSpecifications"].get("locationName", "TagSpecification")
            name = name[0].upper() + name[1:]
            yield "pairs", ["f:%s.#.Tag.#.Key" % name, "f:%s.#.Tag.#.Value" % name]


def protocols(meta):
    known = ("query", "ec2", "json", "rest-json", "rest-xml", "smithy-rpc-v2-cbor")
    out = [p for p in meta.get("protocols", [meta["protocol"]]) if p in known] or [meta["protocol"]]
    if "awsQueryCompatible" in meta and "query" not in out:
        out.append("query")  # clients of before the change still speak it
    return out


class Authorization:
    """The Service Authorization Reference."""

    def __init__(self, folder):
        self.actions, self.types, self.keys = {}, {}, {}
        for name in sorted(os.listdir(os.path.join(folder, "actions"))):
            prefix = name[: -len(".json")]
            self.actions[prefix] = {v["name"]: v for v in self.read(folder, "actions", name).values()}
            self.types[prefix] = self.read(folder, "resourceTypes", name)
            self.keys[prefix] = self.read(folder, "conditionKeys", name)

    @staticmethod
    def read(folder, kind, name):
        path = os.path.join(folder, kind, name)
        if not os.path.exists(path):
            return {}
        with open(path) as f:
            return json.load(f)

    def find(self, action):
        prefix, name = action.split(":")
        return self.actions.get(prefix, {}).get(name)


def load_overrides():
    prefixes, actions, model = {}, {}, None
    with open(os.path.join(HERE, "actions.txt")) as f:
        for line in f:
            line = line.split("#")[0].split()
            if not line:
                continue
            if line[0] == "prefix":
                prefixes[line[1]] = line[2]
            elif line[0] == "model":
                model = line[1]
            else:
                actions[model, line[0]] = line[1:]
    return prefixes, actions


def iam_prefix(name, model, sar, overrides):
    """The prefix of a model's actions: its signing name, unless another has the actions."""
    if name in overrides:
        return overrides[name]
    meta = model["metadata"]
    signing = meta.get("signingName", meta["endpointPrefix"])
    ops = set(model["operations"])
    share = {p: len(ops & set(a)) for p, a in sar.actions.items()}
    if signing in sar.actions:
        return signing
    best = max(sorted(share), key=lambda p: share[p])
    return best if share[best] * 2 >= len(ops) else signing


def load_names():
    """{model: {variable of an ARN: [member]}}, for variables that no member is named after."""
    out = {}
    with open(os.path.join(HERE, "names.txt")) as f:
        for line in f:
            line = line.split("#")[0].split()
            if line:
                out.setdefault(line[0], {}).setdefault(line[1], []).extend(line[2:])
    return out


NAMES = load_names()
VARIABLE = re.compile(r"\$\{([A-Za-z0-9_]+)\}")
FIXED = ("Partition", "Region", "Account")


def type_source(sar_type, op_name, members, lone, names, required):
    """How a request names a resource of a type: alternatives, or ""."""
    key, arn = norm(sar_type["key"]), sar_type["arn"]
    variables = [v for v in VARIABLE.findall(arn) if v not in FIXED]
    alternatives = []
    last = norm(variables[-1]) if variables else ""
    base = re.sub(r"(nameorid|fullname|namewithpath|withpath|identifier|resourceid|name|id|arn|uuid)$", "", last) or key
    arns = {key + "arn", base + "arn", key + "arns", base + "arns"}
    top = {"arn", "resourcearn", "resourcearns", "arns"} if lone else set()
    for m in members:
        if m.norm in arns or singular(m.norm) in arns or len(m.path) == 1 and m.norm in top:
            alternatives.append("@" + m.source())
            break
    if lone and not alternatives:
        for m in members:
            if len(m.path) == 1 and m.norm in ("resource", "resourceid", "resourceidentifier", "resourcename", "resourcetag") and op_name.startswith(
                    ("Tag", "Untag", "List", "Add", "Remove")):
                alternatives.append("@" + m.source())
                break
    fills = []
    for v in variables:
        found = variable_sources(v, v == variables[-1], key, base, lone, op_name, members, names, len(variables) == 1)
        if found:
            fills.append((v, found))
    # Half a name narrows what a required type may be; an optional one is not meant then.
    if fills and (fills[-1][0] == variables[-1] or required):
        if len(fills) == 1 and len(variables) == 1:
            alternatives += ["%s=%s" % (v, m.source()) for v, found in fills for m in found]
        else:
            alternatives.append("&".join("%s=%s" % (v, found[0].source()) for v, found in fills))
    return "|".join(alternatives)


def key_of(key, v):
    return key + "." + v


def variable_sources(v, last, key, base, lone, op_name, members, names, only):
    """The members that may fill a variable. More than one is returned only where all count."""
    exact = norm(v)
    def matches(m, w):
        return m.norm == w or m.is_list and singular(m.norm) == w
    tops = [m for m in members if len(m.path) == 1]
    for m in tops:
        if matches(m, exact) and m.required:
            return [m]
    same = [m for m in members if matches(m, exact)]
    if same:
        return same if only else same[:1]
    b = re.sub(r"(nameorid|fullname|namewithpath|withpath|identifier|resourceid|name|id)$", "", exact)
    wanted = [norm(w) for w in names.get(key_of(key, v), names.get(v, ()))]
    deep = set(wanted)
    # A name does not stand for an id, nor an id for a name.
    if exact.endswith(("name", "namewithpath", "withpath")):
        kinds = ("name", "identifier", "")
    elif exact.endswith(("id", "identifier")):
        kinds = ("id", "identifier", "")
    else:
        kinds = ("name", "id", "identifier", "")
    if b:
        wanted += [b + k for k in kinds]
        deep |= {b + k for k in kinds[:1]}
    if last:
        wanted += [key + k for k in kinds]
        deep |= {key + k for k in kinds[:1]}
        if lone or norm(re.sub(r"^[A-Z][a-z]+", "", op_name)) in (key, base):
            wanted += [k for k in kinds if k]
    for w in wanted:
        for m in tops:
            if matches(m, w):
                return [m]
    for w in wanted:
        if w in deep:
            found = [m for m in members if matches(m, w)]
            if found:
                return found if only else found[:1]
    return []


# A member that holds roles: RoleArn, IamRoles, serviceRoleOverride, RoleARNUpdate,
# roleArnForLogging, iamRoleForDataSourceArn, DomainIAMRoleName.
ROLE_MEMBER = re.compile(r"role(arns?)?(update|override)?$|rolearnforlogging$|iamrolefor\w+arn$|iamrolename$|^(add)?iamroles$")


def role_members(members):
    for m in members:
        if (m.shape["type"] == "string" or m.is_list) and "enum" not in m.shape:
            if ROLE_MEMBER.search(m.norm) or m.norm in ("deliverlogspermissionarn", "deliverlogsrolearn"):
                yield m


def main():
    older_dir, iam_dir = sys.argv[1:3]
    sar = Authorization(os.path.join(iam_dir, "data"))
    prefixes, overrides = load_overrides()
    tiers = load_credentials()
    used = set()
    out = []
    for name, model, _ in sorted(all_models(older_dir), key=lambda x: x[0]):
        if model["metadata"].get("signatureVersion") == "v2":
            continue
        section(out, name, model, sar, prefixes, overrides, tiers, used)
    missing = [k for k in list(tiers) + list(overrides) if k not in used]
    if missing:
        raise SystemExit("named in credentials.txt or actions.txt, but in no model: %s" % missing)
    sys.stdout.write("\n".join(out) + "\n")


def section(out, name, model, sar, prefixes, overrides, tiers, used):
    s = Service(name, model)
    meta = s.meta
    prefix = iam_prefix(name, model, sar, prefixes)
    shape = meta.get("targetPrefix", "").rsplit(".", 1)[-1]
    if "smithy-rpc-v2-cbor" in s.protocols and not shape:
        shape = meta.get("targetPrefix", "")
    flags = "q" if "awsQueryCompatible" in meta else "-"
    out.append("\t".join(["S", name, meta.get("signingName", meta["endpointPrefix"]), ",".join(s.protocols),
                          meta.get("targetPrefix", "-") or "-", meta.get("jsonVersion", "-"), meta["apiVersion"], shape or "-", prefix,
                          "/v2" if name in ("geo-maps", "geo-routes") else "-", flags]))
    types = {}
    lines = []
    for op_name in sorted(model["operations"]):
        op = dict(model["operations"][op_name])
        op["name"] = op_name
        operation(lines, s, op, prefix, sar, types, overrides, tiers, used)
    for arn in types:
        out.append("R\t" + arn)
    if name == "s3":
        known = {m.get("locationName", n) for shape in model["shapes"].values() if shape["type"] == "structure"
                 for n, m in shape["members"].items() if m.get("location") == "querystring"}
        known |= {pair.split("=")[0] for op in model["operations"].values()
                  for pair in op["http"]["requestUri"].partition("?")[2].split("&") if pair}
        out.append("Q\t" + ",".join(sorted(known)))
    out.extend(lines)


def operation(lines, s, op, prefix, sar, types, overrides, tiers, used):
    http = op.get("http", {})
    root = s.shapes[op["input"]["shape"]] if "input" in op else {}
    flags = ""
    if op.get("authtype") == "none" or op.get("auth") == ["smithy.api#noAuth"]:
        flags += "n"
    payload = root.get("payload")
    if payload:
        kind = s.shapes[root["members"][payload]["shape"]]
        if kind.get("eventstream"):
            flags += "e"
        elif kind["type"] in ("blob", "string"):
            flags += "b"
    body = [m for m, r in root.get("members", {}).items() if not r.get("location")]
    if body and "b" not in flags and "e" not in flags:
        flags += "s"  # a structured body
    if any(r.get("location") == "header" and r.get("locationName", m).lower() == "content-type" for m, r in root.get("members", {}).items()):
        flags += "c"  # the caller chooses the content type
    query, headers = [], []
    for m in sorted(root.get("required", ())):
        ref = root["members"].get(m, {})
        if ref.get("location") == "querystring":
            query.append(ref.get("locationName", m))
        elif ref.get("location") == "header":
            headers.append(ref.get("locationName", m).lower())
    key = (s.name, op["name"])
    if "output" in op and hands_out_keys(s.model, op["output"]["shape"]):
        tier = "A"
    else:
        tier = tiers.get(key, "-")
    used.add(key)
    lines.append("\t".join(["O", op["name"], http.get("method", "POST"), http.get("requestUri", "/"),
                            op.get("endpoint", {}).get("hostPrefix", "-"), flags or "-", ",".join(query) or "-", ",".join(headers) or "-", tier]))
    if s.name in ("s3",):
        actions = overrides.get(key) or ["s3:" + op["name"]]
    elif prefix == "apigateway" and not sar.find(prefix + ":" + op["name"]):
        actions = ["apigateway:" + http["method"]]
    else:
        actions = overrides.get(key) or [prefix + ":" + op["name"]]
    if actions == ["none"] or "n" in flags and not sar.find(actions[0]):
        lines.append("N\tnone\t-")
        return
    members = s.members(op)
    names = {**NAMES.get("*", {}), **NAMES.get(s.name, {})}
    passed = False
    for action in actions:
        info = sar.find(action)
        if info is None:
            continue
        if s.name == "s3":
            lines.append("N\t%s\t-" % action)
            continue
        needs(lines, op, action, info, sar, types, members, names)
        passed = passed or info["accessLevel"] not in ("List", "Read") and not action.startswith(("iam:", "sts:"))
        conditions(lines, action, info, sar, members)
    for m in members:
        if len(m.path) == 1 and m.norm in ("registryid", "catalogid", "queueownerawsaccountid") and m.shape["type"] == "string":
            lines.append("X\t" + m.source())
    if passed:
        for m in role_members(members):
            lines.append("P\trole\t" + m.source())
        if s.name == "ec2":
            for m in members:
                if len(m.path) >= 2 and m.path[-2] == "IamInstanceProfile":
                    lines.append("P\tprofile\t" + m.source())
    supported = set()
    for action in actions:
        info = sar.find(action)
        if info:
            for k in info["conditionKeys"] + [k for t in info["resourceTypes"] for k in t["conditionKeys"]]:
                supported.add(k.lower())
    if any(k.startswith("aws:requesttag/") or k == "aws:tagkeys" for k in supported) and s.name != "s3":
        for kind, where in s.tags(op):
            lines.append("\t".join(["T", kind] + where))


def needs(lines, op, action, info, sar, types, members, names):
    prefix = action.split(":")[0]
    found = []
    kinds = [t for t in info["resourceTypes"]]
    for t in kinds:
        sar_type = sar.types[prefix].get(t["name"].lower()) or next(
            (v for v in sar.types[prefix].values() if v["key"].lower() == t["name"].lower()), None)
        if sar_type is None:
            continue
        arn = sar_type["arn"]
        index = types.setdefault(arn, len(types))
        source = type_source(sar_type, op["name"], members, len(kinds) == 1 or generic(op["name"]), names, t["required"])
        found.append("%d%s=%s" % (index, "!" if t["required"] else "", source))
    lines.append("N\t%s\t%s" % (action, ";".join(found) or "-"))


def generic(op_name):
    """Whether an operation names its resource by ARN, whatever the type."""
    return re.match(r"(Tag|Untag|ListTags|AddTags|RemoveTags|ListResourceTags)|(Get|Put|Delete)ResourcePolicy$", op_name) is not None


def conditions(lines, action, info, sar, members):
    prefix = action.split(":")[0]
    keys = set(info["conditionKeys"]) | {k for t in info["resourceTypes"] for k in t["conditionKeys"]}
    for key in sorted(keys):
        if ":" not in key or "$" in key or key.lower().startswith("aws:"):
            continue
        meta = sar.keys[prefix].get(key.lower(), {})
        if not any(k in meta.get("type", "") for k in ("String", "Numeric", "Bool", "ARN", "Arn")):
            continue
        name = norm(key.split(":", 1)[1])
        for m in members:
            if len(m.path) == 1 and m.norm == name and ("arn" in m.norm or "ARN" not in meta["type"].upper()):
                lines.append("C\t%s\t%s" % (key.lower(), m.source()))
                break


if __name__ == "__main__":
    main()
