"""A runtime that is broken on purpose: it never sees one property of config.json.

The test of that property must then fail. A property is a path of names as in config.md,
"linux.resources.pids.limit"; a list on the way stands for all of its elements. Of a
last name with a value, "mounts.options:ro" and "linux.namespaces.type:pid", only that
value goes: from a list of values the value, from a list of objects the object that has it.
"exec.user.umask" is a property of the process that exec is given, and of no config.json.
"""

from __future__ import annotations


def drop(document: object, property_path: str) -> tuple[object, int]:
    """The document without the property, and how often it was there."""
    path, _, value = property_path.partition(":")
    return _without(document, path.split("."), value)


def _without(node: object, names: list[str], value: str) -> tuple[object, int]:
    if isinstance(node, list):
        return _from_list(node, names, value)
    if not isinstance(node, dict) or names[0] not in node:
        return node, 0
    name, *rest = names
    if rest:
        changed, count = _without(node[name], rest, value)
        return {**node, name: changed}, count
    found = node[name]
    if not value:
        return {key: item for key, item in node.items() if key != name}, 1
    if isinstance(found, list):
        kept: list[object] = [item for item in found if str(item) != value]
        return {**node, name: kept}, len(found) - len(kept)
    return node, 0


def _from_list(nodes: list[object], names: list[str], value: str) -> tuple[object, int]:
    kept: list[object] = []
    total = 0
    for node in nodes:
        if value and len(names) == 1 and isinstance(node, dict) and node.get(names[0]) == value:
            total += 1
            continue
        changed, count = _without(node, names, value)
        kept.append(changed)
        total += count
    return kept, total
