"""Whether calls are the wanted ones, by the rules of BFCL's AST checker (bfcl-eval 2026.3.23), or exactly.

A wanted call is `{name: {parameter: [allowed, …]}}`. By both rules `""` among the allowed values says that the parameter
may be left out, what is not listed may not be there, and `true` is not 1.

`python`, `java` and `javascript` are BFCL's rules; they are lenient where free text is compared, and one level deep:
strings lose blanks, `,./-_*^` and case, and ' counts as "; an integer does for a float; types are checked for values and for
the elements of lists; a value of the allowed values' own type passes the type check too; an allowed dictionary lists the
allowed values of each key; lists of dictionaries keep their order. Java and JavaScript values are strings of source code.

`exact` compares values as they are, at every depth, and numbers by what they are worth: 2.0 is 2.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_bipartite_matching

from evalsuite.task.tool_calls.calls import Call
from evalsuite.task.tool_calls.converters import JAVA, JAVASCRIPT, from_java, from_javascript

Function = Mapping[str, Any]
"""A function as BFCL describes it: `name`, `description`, `parameters` with BFCL's own type names."""

Wanted = Mapping[str, Mapping[str, Any]]
"""One wanted call: its name, and the allowed values of each parameter."""

_PYTHON: Mapping[str, type] = {
    "string": str, "integer": int, "float": float, "boolean": bool, "array": list, "tuple": list, "dict": dict, "any": str,
}  # fmt: skip
_DROPPED = re.compile(r"[ ,./\-_*^]")


def pairing_exists(functions: Sequence[Function], calls: Sequence[Call], wanted: Sequence[Wanted], rules: str) -> bool:
    """Say whether calls and wanted calls can be paired one to one, each call right for its partner."""
    if len(calls) != len(wanted):
        return False
    if not calls:
        return True
    fits = [[fit(functions, call, want, rules) for call in calls] for want in wanted]
    return bool(np.all(maximum_bipartite_matching(csr_array(fits)) >= 0))


def greedy_pairing(functions: Sequence[Function], calls: Sequence[Call], wanted: Sequence[Wanted], rules: str) -> bool:
    """Pair as upstream does: each wanted call, in order, takes the first right call that is left."""
    left = list(calls)
    for want in wanted:
        found = next((call for call in left if fit(functions, call, want, rules)), None)
        if found is None:
            return False
        left.remove(found)
    return not left


def fit(functions: Sequence[Function], call: Call, wanted: Wanted, rules: str) -> bool:
    """Say whether a call is the wanted one; `functions` describe at least the wanted function."""
    (name, allowed), arguments = next(iter(wanted.items())), call.arguments
    if arguments is None or call.name != underscored(name):
        return False
    if any(parameter not in arguments and "" not in values for parameter, values in allowed.items()):
        return False
    if not arguments.keys() <= allowed.keys():
        return False
    if rules == "exact":
        return all(_any_equal(value, allowed[parameter]) for parameter, value in arguments.items())
    described = next(function for function in functions if function["name"] == name)["parameters"]
    properties = described["properties"]
    if not (set(described["required"]) <= arguments.keys() <= properties.keys()):
        return False
    right = _RIGHT[rules]
    return all(right(value, properties[parameter], allowed[parameter]) for parameter, value in arguments.items())


def underscored(name: str) -> str:
    """Return a function's name as it is offered: names of tools hold no dots."""
    return name.replace(".", "_")


def _right_python(value: Any, parameter: Mapping[str, Any], allowed: Sequence[Any]) -> bool:
    kind = parameter["type"]
    if kind == "float" and type(value) is int:
        with suppress(OverflowError):
            value = float(value)
    inner = _PYTHON[parameter["items"]["type"]] if kind in {"array", "tuple"} else None
    return _right(value, _PYTHON[kind], inner, allowed)


def _right_java(value: Any, parameter: Mapping[str, Any], allowed: Sequence[Any]) -> bool:
    kind, inner = parameter["type"], parameter["items"]["type"] if "items" in parameter else None
    if not isinstance(value, str):
        return False
    return _right(from_java(value, kind, inner), JAVA[kind], JAVA[inner] if inner else None, allowed)


def _right_javascript(value: Any, parameter: Mapping[str, Any], allowed: Sequence[Any]) -> bool:
    kind, inner = parameter["type"], parameter["items"]["type"] if "items" in parameter else None
    if not isinstance(value, str):
        return False
    return _right(from_javascript(value, kind, inner), JAVASCRIPT[kind], JAVASCRIPT[inner] if inner else None, allowed)


_RIGHT: Mapping[str, Callable[[Any, Mapping[str, Any], Sequence[Any]], bool]] = {
    "python": _right_python,
    "java": _right_java,
    "javascript": _right_javascript,
}


def _right(value: Any, kind: type, inner: type | None, allowed: Sequence[Any]) -> bool:
    """Check type and value of one argument against its allowed values."""
    its, own = type(value), _own_type(allowed)
    if its is not kind:
        return its is own and value in allowed
    if inner is not None and not any(_elements_fit(value, answer, inner) for answer in allowed):
        return False
    if own not in {None, kind}:  # the answer is the name of a variable, say
        return value in allowed
    if kind is dict:
        return any(_dict_fits(value, answer) for answer in allowed)
    if kind is list and inner is dict:
        return any(_dicts_fit(value, answer) for answer in allowed)
    if kind is list:
        return _all_plain(value) in [_all_plain(answer) for answer in allowed]
    if kind is str:
        return _plain(value) in [_plain(answer) for answer in allowed if type(answer) is str]
    return value in allowed


def _own_type(allowed: Sequence[Any]) -> type | None:
    """Return the type of the allowed values, where they are more than a leave to say nothing."""
    return next((type(answer) for answer in allowed if answer != ""), None)


def _elements_fit(values: Sequence[Any], answer: Any, inner: type) -> bool:
    return type(answer) is not list or all(type(value) in {inner, _own_type(answer)} for value in values)


def _dicts_fit(values: Sequence[Any], answers: Sequence[Any]) -> bool:
    return len(values) == len(answers) and all(map(_dict_fits, values, answers))


def _dict_fits(value: Any, answer: Any) -> bool:
    return (
        type(value) is type(answer) is dict
        and all(key in answer and _plain(item) in _all_plain(answer[key]) for key, item in value.items())
        and all(key in value or "" in allowed for key, allowed in answer.items())
    )


def _all_plain(values: Sequence[Any]) -> list[Any]:
    return [_plain(value) for value in values]


def _plain(value: Any) -> Any:
    """Return a string without what does not count; anything else as it is."""
    return _DROPPED.sub("", value).lower().replace("'", '"') if type(value) is str else value


def _any_equal(value: Any, allowed: Sequence[Any]) -> bool:
    return any(_equal(value, answer) for answer in allowed if answer != "")


def _equal(value: Any, answer: Any) -> bool:
    """Compare exactly; an allowed dictionary lists the allowed values of each key, at every depth."""
    if isinstance(answer, dict):
        return (
            isinstance(value, dict)
            and all(key in value or "" in allowed for key, allowed in answer.items())
            and all(key in answer and _any_equal(item, answer[key]) for key, item in value.items())
        )
    if isinstance(answer, list):
        return isinstance(value, list) and len(value) == len(answer) and all(map(_equal, value, answer))
    return isinstance(value, bool) == isinstance(answer, bool) and bool(value == answer)
