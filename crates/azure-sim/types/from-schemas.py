#!/usr/bin/env python3
"""Writes the descriptions in this folder from JSON Schemas of Azure's published ARM types.

    python3 crates/azure-sim/types/from-schemas.py FOLDER

FOLDER holds, per type, `<Namespace>_<type>[_<child>]@<api-version>.write.json` (what may be sent) and `.read.json` (what may
be answered). Each pair becomes one `<Namespace>_<type>[_<child>].json` here: `{"type", "apiVersion", "body": SHAPE}`, where
SHAPE is one of

    "string" | "boolean" | "number" | "guid" | "any"
    {"string": [MIN, MAX]}                    a length in characters; null where there is no bound
    {"enum": ["A", "B"]}                      one of these; with "open": true any other string too
    {"object": MEMBERS}                       exactly these members
    {"map": SHAPE}, {"list": SHAPE}           any names, any number
    {"tagged": {"by": "kind", "common": MEMBERS, "cases": {"A": MEMBERS}}}

MEMBERS maps names to SHAPEs. Marks behind a name: `!` required in a write, `^` answered but never written, `>` written but
never answered (secrets). What can only be read is not described in depth; a type that contains itself is cut with "any".
Standard library only.
"""

import json
import pathlib
import sys

WIDTH = 118
GUID = "^[0-9a-fA-F]{8}-([0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}$"


class Schema:
    """One schema file, with its references followed and the way to here remembered, to see a type inside itself."""

    def __init__(self, root, node, way=()):
        while "$ref" in node:
            name = node["$ref"].rsplit("/", 1)[-1]
            if name in way:
                node = {}
                break
            way += (name,)
            node = root["$defs"][name]
        self.root, self.node, self.way = root, node, way

    def sub(self, node):
        return Schema(self.root, node, self.way)

    def members(self):
        return {name: self.sub(node) for name, node in self.node.get("properties", {}).items()}

    def cases(self):
        return [self.sub(node) for node in self.node.get("anyOf", [])]

    def type(self):
        type_ = self.node.get("type")
        return type_[0] if isinstance(type_, list) else type_

    def is_union(self):
        return any("properties" in case.node for case in self.cases())


def tag_of(cases):
    """The member whose constant tells the cases of a union apart, and the cases by it."""
    names = [{n for n, s in case.members().items() if "const" in s.node} for case in cases]
    for name in sorted(set.intersection(*names)):
        by = {case.members()[name].node["const"]: case for case in cases}
        if len(by) == len(cases):
            return name, by
    raise ValueError("a union without a tag")


def members(write, read):
    """Members with their marks; `read` is None where nothing is known about answers, and then only `!` is given."""
    out = {}
    readable = read.members() if read else None
    required = write.node.get("required", [])
    for name, sent in write.members().items():
        answered = (readable or {}).get(name)
        mark = "!" if name in required else ""
        if readable is not None and answered is None:
            mark += ">"
        out[name + mark] = shape(sent, answered)
    for name, answered in (readable or {}).items():
        if name not in write.members():
            out[name + "^"] = shallow(answered)
    return out


def shape(write, read):
    """The shape of what may be sent, with marks by what may be answered in the same place."""
    node = write.node
    if write.is_union():
        return union(write, read)
    if "anyOf" in node or "const" in node:
        cases = [case.node for case in write.cases()] or [node]
        values = [case["const"] for case in cases if "const" in case]
        return {"enum": values} if len(values) == len(cases) else {"enum": values, "open": True}
    kind = write.type()
    if kind == "object":
        values = node.get("additionalProperties")
        if isinstance(values, dict):
            if node.get("properties"):
                return "any"
            answered = read and isinstance(read.node.get("additionalProperties"), dict)
            answered = read.sub(read.node["additionalProperties"]) if answered else None
            return {"map": shape(write.sub(values), answered)}
        if read is not None and read.type() != "object":
            read = None
        return {"object": members(write, read)}
    if kind == "array":
        answered = read.sub(read.node["items"]) if read and read.type() == "array" else None
        items = shape(write.sub(node["items"]), answered)
        return {"list": items}
    if kind == "string":
        if node.get("pattern") == GUID:
            return "guid"
        bounds = [node.get("minLength"), node.get("maxLength")]
        return {"string": bounds} if any(bounds) else "string"
    return {"number": "number", "boolean": "boolean", None: "any"}[kind]


def union(write, read):
    tag, cases = tag_of(write.cases())
    answered = tag_of(read.cases())[1] if read and read.is_union() else {}
    described = {name: members(case, answered.get(name)) for name, case in cases.items()}
    first = next(iter(described.values()))
    same = {m: s for m, s in first.items() if all(d.get(m) == s for d in described.values()) and len(described) > 1}
    for case in described.values():
        for member in list(case):
            if member in same or member.rstrip("!^>") == tag:
                del case[member]
    return {"tagged": {"by": tag, "common": same, "cases": described}}


def shallow(read):
    """What can only be read is told as far as a reader of this folder profits."""
    if "const" in read.node:
        return "string"
    if "anyOf" in read.node and not read.is_union():
        values = [case.node["const"] for case in read.cases() if "const" in case.node]
        return {"enum": values} if len(values) == len(read.cases()) else {"enum": values, "open": True}
    return {"string": "string", "number": "number", "boolean": "boolean"}.get(read.type(), "any")


def pretty(value, indent=0, before=0):
    """JSON with everything on one line that fits on one."""
    flat = json.dumps(value, ensure_ascii=False)
    if before + len(flat) <= WIDTH or not isinstance(value, (dict, list)) or not value:
        return flat
    if isinstance(value, dict) and len(value) == 1:
        # `{"object": {` and its like open and close together.
        ((name, inner),) = value.items()
        head = "{" + json.dumps(name) + ": "
        return head + pretty(inner, indent, before + len(head)) + "}"
    pad, end = " " * (indent + 2), " " * indent
    if isinstance(value, list):
        lines, line = [], pad
        for at, item in enumerate(value):
            text = json.dumps(item, ensure_ascii=False) + ("," if at + 1 < len(value) else "")
            if len(line) + len(text) > WIDTH and line.strip():
                lines.append(line.rstrip())
                line = pad
            line += text + " "
        return "[\n" + "\n".join([*lines, line.rstrip()]) + "\n" + end + "]"
    lines = []
    for name, inner in value.items():
        head = pad + json.dumps(name) + ": "
        lines.append(head + pretty(inner, indent + 2, len(head) + 1))
    return "{\n" + ",\n".join(lines) + "\n" + end + "}"


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    here = pathlib.Path(__file__).resolve().parent
    files = sorted(pathlib.Path(sys.argv[1]).glob("*.write.json"))
    if not files:
        sys.exit(f"no schemas in {sys.argv[1]}")
    for old in here.glob("*.json"):
        old.unlink()
    for file in files:
        write = json.loads(file.read_text())
        read = json.loads(file.with_name(file.name.replace(".write.json", ".read.json")).read_text())
        name, version = file.name.removesuffix(".write.json").split("@")
        type_ = write["title"].split("@")[0]
        body = shape(Schema(write, write), Schema(read, read))
        described = {"type": type_, "apiVersion": version, "body": body}
        (here / f"{name}.json").write_text(pretty(described) + "\n")
    print(f"{len(files)} types")


if __name__ == "__main__":
    main()
