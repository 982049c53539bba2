"""Java and JavaScript literals as Python values, as far as bfcl-eval 2026.3.23 reads them.

What is no literal of the wanted type stays the string it is: BFCL writes variables by their names. Nested literals and
commas inside strings are split where upstream splits them, so that verdicts agree.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

JAVA: Mapping[str, type] = {
    "byte": int, "short": int, "integer": int, "long": int, "float": float, "double": float, "boolean": bool, "char": str,
    "String": str, "any": str, "Array": list, "ArrayList": list, "HashMap": dict,
}  # fmt: skip
JAVASCRIPT: Mapping[str, type] = {
    "String": str, "integer": int, "float": float, "Bigint": int, "Boolean": bool, "dict": dict, "array": list, "any": str,
}  # fmt: skip

_DECIMAL = r"-?\d+(?:\.\d+)?"
_SCIENTIFIC = rf"{_DECIMAL}(?:[eE][+-]?\d+)?"


def _scalar(pattern: str, read: Callable[[str], Any]) -> Callable[[str], Any]:
    """Read a text that is a literal from end to end, by its first group; leave any other as it is."""
    literal = re.compile(rf"(?:{pattern})$")

    def convert(text: str) -> Any:
        found = literal.match(text)
        try:
            return read(found[1]) if found else text
        except ValueError:  # thousands of digits
            return text

    return convert


def _boolean(text: str) -> Any:
    return {"true": True, "false": False}.get(text, text)


def _unquoted(text: str) -> str:
    return text[1:-1] if text[:1] in {"'", '"'} and text[0] == text[-1] else text


_INTEGER = _scalar(r"(-?\d+)", int)
_JAVA_SCALARS: Mapping[str, Callable[[str], Any]] = {
    "byte": _INTEGER,
    "short": _INTEGER,
    "integer": _INTEGER,
    "long": _scalar(r"(-?\d+)[lL]", int),
    "float": _scalar(rf"({_SCIENTIFIC})[fF]", float),
    "double": _scalar(rf"({_SCIENTIFIC})", float),
    "boolean": _boolean,
}
_JAVASCRIPT_SCALARS: Mapping[str, Callable[[str], Any]] = {
    "integer": _INTEGER,
    "float": _scalar(rf"({_DECIMAL})", float),
    "Bigint": _scalar(r"(-?\d+)n", int),
    "Boolean": _boolean,
    "String": _unquoted,
}


def from_java(text: str, kind: str, inner: str | None = None) -> Any:
    """Read a Java literal of a type; `inner` is the type of a collection's elements."""
    if kind == "Array":
        return _java_array(text, inner)
    if kind == "ArrayList":
        return _java_list(text, inner)
    if kind == "HashMap":
        return _java_map(text)
    return _JAVA_SCALARS.get(kind, str)(text)


def _java_array(text: str, inner: str | None) -> Any:
    found = re.search(r"new\s+\w+\[\]\s*\{(.*?)\}", text)
    if not found:
        return text
    return [_java_element(item.strip(), inner) for item in found[1].split(",") if item.strip()]


def _java_list(text: str, inner: str | None) -> Any:
    quoted = inner in {"char", "String"}
    if found := re.search(r"new\s+ArrayList<\w*>\(Arrays\.asList\((.+?)\)\)", text):
        items = found[1].split(",")
    elif found := re.search(r"new\s+ArrayList<\w*>\(\)\s*\{\{\s*(.+?)\s*\}\}", text, re.DOTALL):
        items = re.findall(r"add\((.+?)\)", found[1])
    else:
        return [] if re.search(r"new\s+ArrayList<\w*>\(\)", text) else text
    return [item.strip()[1:-1] if quoted else _java_element(item.strip(), inner) for item in items]


def _java_map(text: str) -> Any:
    if found := re.search(r"new\s+HashMap<.*?>\s*\(\)\s*\{\s*\{?\s*(.*?)\s*\}?\s*\}", text, re.DOTALL):
        return {key: _java_value(value.strip()) for key, value in re.findall(r'put\("(.*?)",\s*(.*?)\)', found[1])}
    return {} if re.search(r"new\s+HashMap<.*?>\s*\(\)", text) else text


def _java_element(text: str, inner: str | None) -> Any:
    return from_java(text, inner) if inner else _java_value(text)


def _java_value(text: str) -> Any:
    """Read a literal whose type nobody told."""
    if text[:1] == text[-1:] == '"':
        return text[1:-1]
    for kind in ("boolean", "long", "float"):
        if (value := from_java(text, kind)) is not text:
            return value
    return _number(text)


def from_javascript(text: str, kind: str, inner: str | None = None) -> Any:
    """Read a JavaScript literal of a type; `inner` is the type of an array's elements."""
    if kind == "array":
        return _javascript_array(text.strip(), inner)
    if kind == "dict":
        return _javascript_object(text.strip())
    return _JAVASCRIPT_SCALARS.get(kind, str)(text)


def _javascript_array(text: str, inner: str | None) -> Any:
    rows = r"\[.*?\]\s*(?:,\s*\[.*?\]\s*)*"
    if found := re.match(rf"\[\s*{rows}\]|new\s+Array\(\s*{rows}\)", text):
        texts = [row.strip() for row in re.findall(r"\[(.*?)\]", found[0])]
        texts[0] = texts[0].removeprefix("[")
        return [[_javascript_value(item) for item in row.split(",")] for row in texts]
    found = re.match(r"\[(.*?)\]|new\s+Array\((.*?)\)", text)
    if not found:
        return text
    items = (found[1] or found[2] or "").strip()
    read = (lambda item: from_javascript(item, inner)) if inner else _javascript_value
    return [read(item.strip()) for item in items.split(",")] if items else []


def _javascript_object(text: str) -> Any:
    if text == "{}":
        return {}
    found = re.match(r"\{(.*?)\}", text)
    if not found:
        return text
    pairs = re.findall(r"([^:]+):\s*(.*?)(?:,\s*(?=[^,]+:)|$)", found[1])
    return {key.strip().strip("'\""): _javascript_entry(value.strip()) for key, value in pairs}


def _javascript_entry(text: str) -> Any:
    if text[:1] == "[" and text[-1:] == "]":
        return _javascript_array(text, None)
    if text[:1] == "{" and text[-1:] == "}":
        return _javascript_object(text)
    return _javascript_value(text.strip("'\""))


def _javascript_value(text: str) -> Any:
    text = text.strip()
    unquoted = _unquoted(text)
    if unquoted is not text:
        return unquoted
    value = _boolean(text)
    return _number(text) if value is text else value


def _number(text: str) -> Any:
    for read in (int, float):
        try:
            return read(text)
        except ValueError:
            continue
    return text
