"""Print the Service Authorization Reference, compactly.

  V prefix
  A name level types keys                 types and keys are numbers, "!" marks a required type
  R type arn keys
  K key type                              condition keys, lower-case
"""

import os
import sys

from operations import Authorization

LEVELS = [("Permissions management", "P"), ("Write", "W"), ("Tagging", "T"), ("Read", "R"), ("List", "L")]


def level(words):
    """One letter for an access level; the most powerful where there are several."""
    return next(letter for word, letter in LEVELS if word in words.split(", "))


def main():
    sar = Authorization(os.path.join(sys.argv[1], "data"))
    for prefix in sorted(sar.actions):
        types = sorted(sar.types[prefix].values(), key=lambda t: t["key"])
        number = {t["key"].lower(): str(i) for i, t in enumerate(types)}
        keys = {}
        kinds = {k: v.get("type", "String") for k, v in sar.keys[prefix].items()}
        def refs(names):
            return ",".join(str(keys.setdefault(n.lower(), len(keys))) for n in sorted(names)) or "-"
        lines = []
        for name in sorted(sar.actions[prefix]):
            a = sar.actions[prefix][name]
            listed = ",".join(number[t["name"].lower()] + ("!" if t["required"] else "")
                              for t in a["resourceTypes"] if t["name"].lower() in number)
            all_keys = set(a["conditionKeys"]) | {k for t in a["resourceTypes"] for k in t["conditionKeys"]}
            lines.append("\t".join(["A", name, level(a["accessLevel"]), listed or "-", refs(all_keys)]))
        for t in types:
            lines.append("\t".join(["R", t["key"], t["arn"], refs(t.get("conditionKeys", []))]))
        print("V\t" + prefix)
        for k in keys:
            print("K\t%s\t%s" % (k, kinds.get(k, "String")))
        print("\n".join(lines))


if __name__ == "__main__":
    main()
