"""Function schemas as data sets write them, made into ones that can be checked.

Sets write types as Python does (`"str, optional"`, `"List[int]"`), as the Berkeley leaderboard does (`"dict"`,
`"float"`), or as JSON schema; some give the parameters as a flat mapping. What comes out is an OpenAI function
schema whose parameters are a JSON schema, and whose name fits the wire format.
"""

from __future__ import annotations

import re
from typing import Any

import jsonschema_rs

from mentor_gym.data import DataError
from mentor_gym.importers.files import kind_of
from mentor_gym.protocol import clean

_SIMPLE = {
    "str": "string",
    "string": "string",
    "int": "integer",
    "integer": "integer",
    "long": "integer",
    "float": "number",
    "double": "number",
    "number": "number",
    "bool": "boolean",
    "boolean": "boolean",
    "list": "array",
    "array": "array",
    "tuple": "array",
    "set": "array",
    "dict": "object",
    "object": "object",
    "hashmap": "object",
    "null": "null",
    "none": "null",
    "nonetype": "null",
}
_GENERIC = re.compile(r"(\w+)\[(.*)\]")
_BAD = re.compile(r"[^A-Za-z0-9_-]")
# Depth of a type such as List[List[int]], and of a schema.
_DEEPEST = 16
_REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")


def tool_name(name: str) -> str:
    """Return a name as the wire format has it: other characters than letters, digits, - and _ become _.

    >>> tool_name("Market Trends API"), tool_name("2d.area")
    ('Market_Trends_API', '_2d_area')
    """
    name = _BAD.sub("_", name.strip())[:64]
    return name if name[:1].isalpha() or name[:1] == "_" else f"_{name}"[:64]


def function_schema(raw: Any, where: str) -> dict[str, Any]:
    """Return an OpenAI function schema of a tool as a data set describes it.

    Args:
        raw: `{"name": …, "description": …, "parameters": …}`, or that as `function` of `{"type": "function", …}`.
            The parameters are a JSON schema, or a mapping of argument names to their types and descriptions, where
            an argument is required unless it says that it is optional or has a default.
        where: File, line and field, for messages.

    Raises:
        DataError: It is no such description.

    >>> raw = {"name": "now", "parameters": {"zone": {"type": "str, optional", "description": "A city."}}}
    >>> function_schema(raw, "x.json, line 1")["function"]["parameters"]["properties"]
    {'zone': {'type': 'string', 'description': 'A city.'}}
    """
    if isinstance(raw, dict) and isinstance(raw.get("function"), dict):
        raw = raw["function"]
    if not isinstance(raw, dict):
        raise DataError(f"{where}: expected the description of a function, got {kind_of(raw)}")
    name, description = raw.get("name"), raw.get("description")
    if not isinstance(name, str) or not name.strip():
        raise DataError(f"{where}: name: expected a text that is not blank, got {kind_of(name)}")
    if description is not None and not isinstance(description, str):
        raise DataError(f"{where}: description: expected a text, got {kind_of(description)}")
    parameters = raw.get("parameters")
    if parameters is None:
        parameters = {}
    if not isinstance(parameters, dict):
        raise DataError(f"{where}: parameters: expected an object, got {kind_of(parameters)}")
    if not isinstance(parameters.get("properties"), dict) and _is_flat(parameters):
        parameters = _from_flat(parameters, raw.get("required"))
    checked = {"type": "object", "properties": {}, **_mend(parameters, 0), "additionalProperties": False}
    checked["type"] = "object"
    problem = schema_problem(checked)
    if problem is not None:
        raise DataError(f"{where}: parameters of {name!r}: {problem}")
    function = {"name": tool_name(name), "description": clean(description or ""), "parameters": checked}
    return {"type": "function", "function": function}


def schema_problem(schema: dict[str, Any]) -> str | None:
    """Say why a JSON schema cannot be used to check arguments; None when it can.

    One that refers to another document is refused: to check arguments must fetch nothing.

    >>> schema_problem({"type": "dict"})
    'not a JSON schema'
    """
    if _refers_outside(schema, 0):
        return "a schema may refer only to itself"
    try:
        jsonschema_rs.validator_for(schema)
    except (ValueError, RecursionError):
        return "not a JSON schema"
    return None


def _refers_outside(node: Any, depth: int) -> bool:
    if depth > _DEEPEST * 2:
        return True
    if isinstance(node, dict):
        for key, value in node.items():
            if key in _REFERENCES and not (isinstance(value, str) and value.startswith("#")):
                return True
            # Of another draft, or another base for what "#" means.
            if key in ("$schema", "$id") and isinstance(value, str):
                return True
        return any(_refers_outside(value, depth + 1) for value in node.values())
    return isinstance(node, list) and any(_refers_outside(item, depth + 1) for item in node)


def _is_flat(parameters: dict[str, Any]) -> bool:
    """Whether these are arguments by name rather than a JSON schema without properties."""
    return bool(parameters) and all(isinstance(value, dict) for value in parameters.values())


def _from_flat(parameters: dict[str, Any], required: Any) -> dict[str, Any]:
    names = required if isinstance(required, list) else [name for name in parameters if _needed(parameters[name])]
    return {"type": "object", "properties": parameters, "required": [name for name in names if name in parameters]}


def _needed(argument: dict[str, Any]) -> bool:
    if isinstance(argument.get("required"), bool):
        return bool(argument["required"])
    kind = argument.get("type")
    if isinstance(kind, str) and (kind.startswith("Optional[") or "optional" in kind.lower().split(",")[-1]):
        return False
    return "default" not in argument


def _mend(node: Any, depth: int) -> dict[str, Any]:
    """Return a schema whose types are those of JSON schema, without what is none of it."""
    if not isinstance(node, dict) or depth > _DEEPEST:
        return {}
    mended: dict[str, Any] = {}
    for key, value in node.items():
        if value is None and key != "default":
            # A parquet file writes every field of every schema.
            continue
        if key == "type":
            mended.update(_type(value, depth))
        elif key == "properties" and isinstance(value, dict):
            mended[key] = {name: _mend(item, depth + 1) for name, item in value.items() if item is not None}
        elif key == "items":
            mended[key] = _mend(value, depth + 1)
        elif key == "required":
            # `"required": true` beside an argument is no JSON schema, and said above it.
            if isinstance(value, list):
                mended[key] = list(dict.fromkeys(name for name in value if isinstance(name, str)))
        elif key == "enum":
            if isinstance(value, list) and value:
                mended[key] = value
        elif key in ("anyOf", "oneOf", "allOf") and isinstance(value, list):
            mended[key] = [_mend(item, depth + 1) for item in value]
        elif key in ("$defs", "definitions") and isinstance(value, dict):
            mended[key] = {name: _mend(item, depth + 1) for name, item in value.items()}
        elif key == "additionalProperties" and isinstance(value, dict):
            mended[key] = _mend(value, depth + 1)
        elif key not in ("optional", "$schema", "$id"):
            mended[key] = value
    if "required" in mended and isinstance(mended.get("properties"), dict):
        mended["required"] = [name for name in mended["required"] if name in mended["properties"]]
    return mended


def _type(kind: Any, depth: int) -> dict[str, Any]:
    if isinstance(kind, list):
        names = [_SIMPLE.get(str(item).lower()) for item in kind]
        return {"type": names} if names and None not in names else {}
    if not isinstance(kind, str) or depth > _DEEPEST:
        return {}
    kind = re.sub(r",\s*(optional|required)\b.*$", "", kind.strip(), flags=re.IGNORECASE).strip()
    if kind.lower() in _SIMPLE:
        return {"type": _SIMPLE[kind.lower()]}
    generic = _GENERIC.fullmatch(kind)
    if generic is None:
        return {}
    outer, inner = generic[1].lower(), generic[2]
    if outer == "optional":
        return _type(inner, depth + 1)
    if outer in ("list", "array", "set", "sequence"):
        items = _type(inner, depth + 1)
        return {"type": "array", "items": items} if items else {"type": "array"}
    if outer == "tuple":
        return {"type": "array"}
    return {"type": "object"} if outer in ("dict", "mapping") else {}
