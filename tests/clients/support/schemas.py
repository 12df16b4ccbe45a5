"""Holds ARM exchanges to the published shapes in `../shared/azure/schemas`, where that folder is present.

A file is `{type with / as _}@{api-version}.{read|write}.json`. Write shapes take accepted bodies, whole for PUT and without
required members for PATCH; read shapes take answers. A shape speaks for its type in every api-version that a client sends:
the clients' versions differ from the shapes' by months, in members that these tests do not use.
"""

import copy
import functools
import json
import os
import re
from pathlib import Path

from jsonschema import Draft202012Validator

ROOT = Path(__file__).resolve().parents[3]


def shared_folder():
    """The folder of Azure's facts beside the repository, or None."""
    named = os.environ.get("CMK_SHARED_AZURE")
    candidates = [Path(named)] if named else [parent / "shared" / "azure" for parent in ROOT.parents]
    return next((folder for folder in candidates if folder.is_dir()), None)


@functools.cache
def _files():
    """Path of each shape by (type in lower case, read or write)."""
    folder = shared_folder()
    found = {}
    for file in sorted((folder / "schemas").glob("*.json")) if folder else []:
        named, _, rest = file.name.partition("@")
        found[named.replace("_", "/").lower(), rest.rsplit(".", 2)[1]] = file
    return found


def _without_required(schema):
    if isinstance(schema, dict):
        return {k: _without_required(v) for k, v in schema.items() if k != "required" or not isinstance(v, list)}
    if isinstance(schema, list):
        return [_without_required(v) for v in schema]
    return schema


@functools.cache
def schema(arm_type, kind):
    """The shape of a type, or None. `kind`: read, write."""
    file = _files().get((arm_type.lower(), kind))
    return json.loads(file.read_text()) if file else None


@functools.cache
def _validator(arm_type, kind):
    found = schema(arm_type, "write" if kind == "patch" else kind)
    if found is None:
        return None
    return Draft202012Validator(_without_required(copy.deepcopy(found)) if kind == "patch" else found)


def faults(arm_type, kind, value):
    """What is wrong with a body by its shape, as sentences. `kind`: read, write, patch."""
    validator = _validator(arm_type, kind)
    if validator is None:
        return []
    return [
        f"{arm_type} ({kind}) at /{'/'.join(map(str, error.absolute_path))}: {error.message[:300]}"
        for error in validator.iter_errors(value)
    ]


def type_of(path):
    """(ARM type, whether the path names a collection) of a resource path, or None for what is no resource."""
    bare = path.rstrip("/")
    if re.fullmatch(r"/subscriptions/[^/]+/resourcegroups(/[^/]+)?", bare, re.I):
        return "Microsoft.Resources/resourceGroups", bare.count("/") == 3
    head, provider, tail = bare.rpartition("/providers/")
    if not provider or "/" not in tail or not re.match(r"/subscriptions/", head + "/", re.I):
        return None
    namespace, *rest = tail.split("/")
    collection = len(rest) % 2 == 1
    return f"{namespace}/{'/'.join(rest[::2])}", collection


def hold(exchange, arm_host):
    """The faults of one exchange; none for hosts other than ARM, failures and what has no shape."""
    if exchange.host != arm_host or not 200 <= exchange.status < 300:
        return []
    found = type_of(exchange.path)
    if found is None:
        return []
    arm_type, collection = found
    problems = []
    if not collection and exchange.sent is not None and exchange.method in ("PUT", "PATCH"):
        problems += faults(arm_type, "write" if exchange.method == "PUT" else "patch", exchange.sent)
    if exchange.received is None:
        return problems
    if not collection and exchange.method in ("GET", "PUT", "PATCH"):
        problems += faults(arm_type, "read", exchange.received)
    elif collection and exchange.method == "GET" and isinstance(exchange.received.get("value"), list):
        for item in exchange.received["value"]:
            problems += faults(arm_type, "read", item)
    return problems
