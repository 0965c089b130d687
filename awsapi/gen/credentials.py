"""Which operations answer with credentials.

Tier A, AWS access keys, is found by scanning the output shapes, so that none
is missed. B (tokens), C (passwords, private keys, secrets) and D (URLs and
sessions that carry a grant) are named in credentials.txt, since the names of
their fields do not tell them from harmless ones.
"""

import os
import re

SECRET_KEY = re.compile(r"(secretaccesskey|secretkey)$")


def load():
    """Return {(model, operation): tier} of the named ones."""
    out = {}
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "credentials.txt")) as f:
        for line in f:
            line = line.split("#")[0].split()
            if line:
                tier, model, operations = line[0], line[1], line[2:]
                out.update({(model, op): tier for op in operations})
    return out


def hands_out_keys(model, name, seen=(), depth=0):
    """Report whether a secret access key is somewhere below a shape."""
    shape = model["shapes"][name]
    if name in seen or depth > 12:
        return False
    seen = seen + (name,)
    kind = shape["type"]
    if kind == "structure":
        for member, ref in shape["members"].items():
            if model["shapes"][ref["shape"]]["type"] == "string" and SECRET_KEY.search(re.sub(r"[^a-z0-9]", "", member.lower())):
                return True
            if hands_out_keys(model, ref["shape"], seen, depth + 1):
                return True
    if kind == "list":
        return hands_out_keys(model, shape["member"]["shape"], seen, depth + 1)
    if kind == "map":
        return hands_out_keys(model, shape["value"]["shape"], seen, depth + 1)
    return False
