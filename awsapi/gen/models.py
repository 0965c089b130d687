"""The service models to build from: botocore's, and those that only the older SDK still has."""

import glob
import json
import os

from botocore.loaders import Loader


def all_models(older_dir):
    """Yield (name, model, origin) of the newest version of each service."""
    loader = Loader()
    seen, names = set(), set()
    for name in sorted(loader.list_available_services("service-2")):
        model = loader.load_service_model(name, "service-2")
        meta = model["metadata"]
        seen.add(identity(meta))
        names.add(name)
        yield name, model, "botocore"
    for folder in sorted(glob.glob(os.path.join(older_dir, "models", "apis", "*"))):
        versions = sorted(glob.glob(os.path.join(folder, "*", "api-2.json")))
        if not versions:
            continue
        with open(versions[-1]) as f:
            model = json.load(f)
        if identity(model["metadata"]) in seen:
            continue
        name = os.path.basename(folder)
        if name in names:
            raise SystemExit("two services are called " + name)
        yield name, model, "aws-sdk-go"


def identity(meta):
    """What tells two services apart on the wire."""
    return (meta["endpointPrefix"].lower(), meta.get("signingName", meta["endpointPrefix"]).lower())
