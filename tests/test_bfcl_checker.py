"""The AST checker against that of the wheel bfcl-eval: its own ground truths, and thousands of seeded mutations of them."""

import collections
import importlib
import json
import re
import sys
import types
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jsonschema import Draft202012Validator

from evalsuite.errors import MachineError
from evalsuite.records import Sample
from evalsuite.shipped import shipped
from evalsuite.task.tasks import read_task, read_task_file
from evalsuite.task.tool_calls.ast_checker import greedy_pairing, pairing_exists, underscored
from evalsuite.task.tool_calls.calls import Call
from evalsuite.task.tool_calls.converters import JAVA, JAVASCRIPT, from_java, from_javascript
from evalsuite.wheels import unpacked_wheel

TASK = read_task_file(shipped("tasks") / "bfcl")
SIZES = TASK.dataset.rows
ANSWERED = [category for category in SIZES if "relevance" not in category]
MUTANTS = 8
"""Mutated answers a row; a row in twenty has several calls, each mutated in its turn."""


@dataclass(frozen=True)
class Row:
    """A question of BFCL with the wanted calls."""

    category: str
    functions: tuple[Any, ...]
    wanted: tuple[Any, ...]


@pytest.fixture(scope="module")
def wheel() -> Path:
    """The unpacked wheel; nothing of it is imported."""
    try:
        return unpacked_wheel(str(TASK.dataset.wheel))
    except MachineError as error:
        pytest.skip(f"needs bfcl-eval out of the package index: {error}")


@pytest.fixture(scope="module")
def samples(wheel: Path) -> list[Sample]:
    return list(read_task(shipped("tasks") / "bfcl", data=wheel).samples)


@pytest.fixture(scope="module")
def rows(samples: list[Sample]) -> dict[str, list[Row]]:
    """The questions of each category, in upstream's order."""
    found: dict[str, list[Row]] = {category: [] for category in SIZES}
    for sample in sorted(samples, key=lambda sample: [int(n) for n in re.findall(r"\d+", sample.sample_id)]):
        found[sample.stratum].append(
            Row(sample.stratum, tuple(sample.target["functions"]), tuple(sample.target["calls"]))
        )
    return found


@pytest.fixture(scope="module")
def upstream(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Functions of bfcl-eval, whose imports of vendor SDKs and parsers are replaced by empty modules."""
    names = ("json", "java", "javascript", "concise_xml", "verbose_xml")
    parsers = {f"parse_{name}_function_call": None for name in names}
    stubs = {f"model_handler.parser.{name}_parser": parsers for name in ("java", "js", "json", "xml")}
    every_model = collections.defaultdict(lambda: types.SimpleNamespace(underscore_to_dot=True))
    stubs["constants.model_config"] = {"MODEL_CONFIG_MAPPING": every_model}
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(wheel))
        patch.setenv("BFCL_PROJECT_ROOT", str(tmp_path_factory.mktemp("bfcl")))
        for name, content in stubs.items():
            module = types.ModuleType(f"bfcl_eval.{name}")
            vars(module).update(content)
            patch.setitem(sys.modules, module.__name__, module)
        found = {name: getattr(importlib.import_module(f"bfcl_eval.{path}"), name) for name, path in TAKEN.items()}
        yield types.SimpleNamespace(**found)


TAKEN = {
    "Language": "constants.enums",
    "ModelStyle": "constants.enums",
    "GORILLA_TO_OPENAPI": "constants.type_mappings",
    "ast_checker": "eval_checker.ast_eval.ast_checker",
    "java_type_converter": "eval_checker.ast_eval.type_convertor.java_type_converter",
    "js_type_converter": "eval_checker.ast_eval.type_convertor.js_type_converter",
    "convert_to_tool": "model_handler.utils",
    "load_dataset_entry": "utils",
    "calculate_unweighted_accuracy": "eval_checker.eval_runner_helper",
    "calculate_weighted_accuracy": "eval_checker.eval_runner_helper",
}
"""What the tests compare with, by where bfcl-eval keeps it."""


def verdict(upstream: Any, row: Row, calls: list[Call]) -> bool:
    """What upstream says of calls."""
    made = [{call.name: deepcopy(call.arguments)} for call in calls]
    language = upstream.Language[rules(row.category).upper()]
    said = upstream.ast_checker(list(row.functions), made, list(row.wanted), language, row.category, "any")
    return bool(said["valid"])


def rules(category: str) -> str:
    return {"simple_java": "java", "simple_javascript": "javascript"}.get(category, "python")


def picked(allowed: Any) -> Any:
    """One allowed value of each thing, the first that is not a leave to say nothing."""
    value = next((value for value in allowed if value != ""), "")
    return resolved(value)


def resolved(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: picked(allowed) if isinstance(allowed, list) else allowed for key, allowed in value.items()}
    return [resolved(item) for item in value] if isinstance(value, list) else value


def literal(value: Any, kind: str, inner: str, language: str) -> str:
    """A value as the source code that upstream's converters read best."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        quoted = inner if kind != "Array" else "any"  # upstream leaves the quotes on the strings of a Java array
        items = ", ".join(literal(item, quoted, "", language) for item in value)
        forms = {"Array": f"new Object[]{{{items}}}", "ArrayList": f"new ArrayList<>(Arrays.asList({items}))"}
        return forms.get(kind, f"[{items}]")
    if isinstance(value, dict):
        entries = {key: literal(item, "String", "String", language) for key, item in value.items()}
        if language == "javascript":
            return "{" + ", ".join(f'"{key}": {item}' for key, item in entries.items()) + "}"
        return "new HashMap<String, Object>() {{ " + " ".join(f'put("{k}", {v});' for k, v in entries.items()) + " }}"
    if isinstance(value, str):
        return f'"{value}"' if kind == "String" else value
    return f"{value}{({'java': {'long': 'L', 'float': 'f'}, 'javascript': {'Bigint': 'n'}}[language]).get(kind, '')}"


def answer(row: Row) -> list[Call]:
    """The ground truth as calls."""
    return [
        Call(underscored(name), arguments_of(row, name, allowed), "")
        for want in row.wanted
        for name, allowed in want.items()
    ]


def arguments_of(row: Row, name: str, allowed: Any) -> dict[str, Any]:
    arguments = {parameter: picked(values) for parameter, values in allowed.items() if any(v != "" for v in values)}
    if (language := rules(row.category)) != "python":
        properties = next(f for f in row.functions if f["name"] == name)["parameters"]["properties"]
        for parameter, value in arguments.items():
            kind, inner = properties[parameter]["type"], properties[parameter].get("items", {}).get("type", "")
            bare = language == "java" and kind == "String"
            arguments[parameter] = literal(value, "any" if bare else kind, inner, language)
    return arguments


PASSING = {
    "simple_python": 400, "simple_java": 97, "simple_javascript": 50, "multiple": 200, "parallel": 200,
    "parallel_multiple": 198, "live_simple": 256, "live_multiple": 1050, "live_parallel": 16, "live_parallel_multiple": 24,
}  # fmt: skip
"""How many ground truths pass as answers; the others cannot, or not as plainly picked: they want what is not offered."""


@pytest.mark.parametrize("category", ANSWERED)
def test_ground_truths_as_answers(rows: dict[str, list[Row]], upstream: Any, category: str):
    """Each category's ground truths pass or fail as upstream says, one by one."""
    asked = rows[category]
    ours = [greedy_pairing(row.functions, answer(row), row.wanted, rules(category)) for row in asked]
    assert ours == [verdict(upstream, row, answer(row)) for row in asked]
    assert (len(asked), sum(ours)) == (SIZES[category], PASSING[category])


def mutated(value: Any, rng: np.random.Generator) -> Any:
    """A value near another one: of another type, spelt differently, or with a part of it changed."""
    if isinstance(value, dict | list) and value and rng.random() < 0.7:
        keys = [*value] if isinstance(value, dict) else [*range(len(value))]
        changed, key = deepcopy(value), keys[rng.integers(len(keys))]
        match rng.integers(4):
            case 0:
                del changed[key]
            case 1 if isinstance(changed, dict):
                changed["extra"] = changed[key]
            case 1:
                changed.append(changed[key])
            case 2 if isinstance(changed, list):
                changed.reverse()
            case _:
                changed[key] = mutated(changed[key], rng)
        return changed
    others = [str(value), None, [value], {"extra": value}, "", [], {}, True, False, 0, 1, 1.0]
    if isinstance(value, int | float):
        others += [value + 1, -value, float(value), int(value), bool(value), str(float(value)), value + 1e-9] * 3
    if isinstance(value, str):
        at = rng.integers(len(value) + 1)
        near = [value.upper(), value.replace(" ", ""), value.replace(",", ", "), value.replace("'", '"'), value[1:]]
        near += [value[:at] + mark + value[at:] for mark in [*" ,./-_*^'\"()[]{}x0:", "new ", "L", "\n"]]
        others += near * 2
    return others[rng.integers(len(others))]


def mutant(row: Row, rng: np.random.Generator) -> list[Call]:
    """The ground truth with one to three things changed."""
    calls = answer(row)
    for _ in range(rng.integers(1, 4)):
        if not calls:
            break
        at = rng.integers(len(calls))
        call, arguments = calls[at], dict(calls[at].arguments or {})
        names = [*arguments]
        name = names[rng.integers(len(names))] if names else "extra"
        match rng.integers(10):
            case 0:
                del calls[at]
            case 1:
                calls.append(call)
            case 2:
                calls.reverse()
            case 3:
                arguments.pop(name, None)
            case 4:
                arguments["extra"] = 1
            case 5:
                other = calls[rng.integers(len(calls))]
                arguments = {**arguments, **(other.arguments or {})}
            case 6:
                allowed = next((w[n][name] for w in row.wanted for n in w if name in w[n]), None)
                if allowed:
                    arguments[name] = resolved(allowed[rng.integers(len(allowed))])
            case 7 if rng.random() < 0.2:
                call = Call(call.name + "s", call.arguments, "")
            case _:
                arguments[name] = mutated(arguments.get(name), rng)
        if at < len(calls):
            calls[at] = Call(call.name, arguments, "")
    return calls


@pytest.mark.parametrize("category", ANSWERED)
def test_mutated_answers(rows: dict[str, list[Row]], upstream: Any, category: str):
    """Answers changed at random are right exactly where upstream says so, and no pairing is found that it misses."""
    rng = np.random.default_rng(7)
    verdicts: collections.Counter[bool] = collections.Counter()
    for row in rows[category]:
        for _ in range(MUTANTS):
            calls = mutant(row, rng)
            theirs = verdict(upstream, row, calls)
            assert greedy_pairing(row.functions, calls, row.wanted, rules(category)) == theirs, (row, calls)
            assert pairing_exists(row.functions, calls, row.wanted, rules(category)) == theirs, (row, calls)
            verdicts[theirs] += 1
    assert verdicts[True] > 0.05 * verdicts.total()
    assert verdicts[False] > 0.5 * verdicts.total()


def one_parameter(kind: str, allowed: list[Any], inner: str = "") -> Row:
    parameter = {"type": kind} | ({"items": {"type": inner}} if inner else {})
    parameters = {"type": "dict", "properties": {"x": parameter}, "required": ["x"]}
    function = {"name": "f", "description": "", "parameters": parameters}
    return Row("simple_python", (function,), ({"f": {"x": allowed}},))


def with_value(value: Any) -> list[Call]:
    return [Call("f", {"x": value}, "")]


RULES: list[tuple[Row, Any, bool]] = [
    (one_parameter("integer", [1]), True, False),
    (one_parameter("boolean", [True]), 1, False),
    (one_parameter("float", [5.0]), 5, True),
    (one_parameter("float", [5]), 5.0, True),
    (one_parameter("integer", [5]), 5.0, False),
    (one_parameter("array", [[1.0, 2.0]], "float"), [1, 2], False),
    (one_parameter("array", [[1, 2]], "float"), [1, 2], True),
    (one_parameter("tuple", [["a", "b"]], "string"), ["A", "b."], True),
    (one_parameter("array", [[["a"]]], "array"), [["A"]], False),
    (one_parameter("any", ["5"]), 5, False),
    (one_parameter("any", [5]), 5, True),
    (one_parameter("integer", ["n"]), "n", True),
    (one_parameter("integer", ["n"]), "N", False),
    (one_parameter("string", ["April 1, 2024"]), "april 1,2024", True),
    (one_parameter("string", ["it's"]), 'it"s', True),
    (one_parameter("string", ["a;b"]), "a b", False),
    (one_parameter("string", ["a", ""]), "-", True),
    (one_parameter("dict", [{"k": ["v", ""], "l": [1]}]), {"l": 1}, True),
    (one_parameter("dict", [{"k": ["v"], "l": [1]}]), {"l": 1}, False),
    (one_parameter("dict", [{"k": ["v"]}]), {"k": "V", "m": 1}, False),
    (one_parameter("array", [[{"k": [1]}, {"k": [2]}]], "dict"), [{"k": 1}, {"k": 2}], True),
    (one_parameter("array", [[{"k": [1]}, {"k": [2]}]], "dict"), [{"k": 2}, {"k": 1}], False),
]


@pytest.mark.parametrize(("row", "value", "right"), RULES)
def test_a_rule(upstream: Any, row: Row, value: Any, right: bool):
    """Each rule holds as the notes on BFCL state it, here and upstream."""
    assert pairing_exists(row.functions, with_value(value), row.wanted, "python") is right
    assert verdict(upstream, row, with_value(value)) is right


CRASHES = [
    (one_parameter("float", [1.0]), 10**400, OverflowError),
    (one_parameter("array", [[{"k": [1]}], ""], "dict"), [1], AttributeError),
]


@pytest.mark.parametrize(("row", "value", "error"), CRASHES)
def test_where_upstream_crashes(upstream: Any, row: Row, value: Any, error: type[Exception]):
    """An argument on which upstream's checker breaks off is wrong."""
    with pytest.raises(error):
        verdict(upstream, row, with_value(value))
    assert not pairing_exists(row.functions, with_value(value), row.wanted, "python")


def test_all_pairings_are_searched(upstream: Any):
    """Where the first right call is needed by another wanted one, upstream gives up and we find the pairing."""
    wanted = ({"f": {"x": [1, 2]}}, {"f": {"x": [1]}})
    row = replace(one_parameter("integer", []), category="parallel", wanted=wanted)
    calls = [*with_value(1), *with_value(2)]
    assert not verdict(upstream, row, calls)
    assert not greedy_pairing(row.functions, calls, wanted, "python")
    assert pairing_exists(row.functions, calls, wanted, "python")


TEXTS = [
    "5", "-5", "5L", "5l", "5n", "2.5", "2.5f", "1e3F", "1.5e-3", "true", "false", "True", "'a'", '"a b"', "", '"', "x",
    "new int[]{1, 2, 3}", 'new String[]{"a", "b"}', "new int[] { }", "new long[]{1L,2L}", "new int[][]{{1}, {2}}",
    'new ArrayList<>(Arrays.asList("a", "b"))', "new ArrayList<Integer>(Arrays.asList(1, 2))", "new ArrayList<>()",
    "new ArrayList<Float>() {{ add(1.0f); add(2.0f); }}", "new ArrayList<Character>() {{ add('a'); add('b'); }}",
    'new HashMap<String, Object>() {{ put("a", 1); put("b", "c d"); put("e", true); put("f", 2L); }}', "new HashMap<>()",
    'new HashMap<String, String>() { { put("k", "v"); } }', "[1, 2.5, 'x', true]", "new Array(1, 2)", "[]", "[[1, 2], [3]]",
    " [ [ 'a' ], [ true ] ] ", "new Array([1], [2, 3])", '["a, b", "c"]', "{}", "{a: {b: 1}}",
    '{"a": 1, \'b\': "c", d: [1, 2]}', "{a: 1, b: [x, 'y'], c: true}", '[{"a": 1}, {"b": 2}]', "[1n, 2n]",
]  # fmt: skip
"""Literals of both languages, and near ones."""

INNER = {"Array": JAVA, "ArrayList": JAVA, "array": JAVASCRIPT}


@pytest.mark.parametrize("language", ["java", "javascript"])
def test_literals(upstream: Any, language: str):
    """Every literal, whole or with two characters changed, is read as upstream reads it, whatever type is wanted."""
    rng = np.random.default_rng(3)
    ours, kinds = (from_java, JAVA) if language == "java" else (from_javascript, JAVASCRIPT)
    theirs = upstream.java_type_converter if language == "java" else upstream.js_type_converter
    texts = [*TEXTS, *(changed(changed(text, rng), rng) for text in TEXTS for _ in range(20))]
    wanted = [(kind, inner) for kind in kinds for inner in [None, *INNER.get(kind, {})]]
    for text, (kind, inner) in product(texts, wanted):
        assert repr(ours(text, kind, inner)) == repr(theirs(text, kind, inner)), (text, kind, inner)


def changed(text: str, rng: np.random.Generator) -> str:
    """A text with a character left out, put in or put elsewhere."""
    at, to = rng.integers(len(text) + 1, size=2)
    left = text[:at] + text[at + 1 :]
    extra = rng.choice([*"()[]{}<>,:\"' \n1.eLfn-", text[at : at + 1]])
    return str(rng.choice([left, text[:at] + extra + text[at:], left[:to] + extra + left[to:]]))


@pytest.mark.parametrize("category", SIZES)
def test_tools_are_offered_as_upstream_offers_them(samples: list[Sample], upstream: Any, category: str):
    """Names, types, hints and the order of keys are those of upstream's conversion for chat APIs, byte by byte."""
    rows = upstream.load_dataset_entry(category)
    style = upstream.ModelStyle.OPENAI_COMPLETIONS
    theirs = {row["id"]: upstream.convert_to_tool(row["function"], upstream.GORILLA_TO_OPENAPI, style) for row in rows}
    ours = {sample.sample_id: sample.metadata["tools"] for sample in samples if sample.stratum == category}
    assert ours.keys() == theirs.keys()
    assert {name: json.dumps(tools) for name, tools in ours.items()} == {
        name: json.dumps(tools) for name, tools in theirs.items()
    }


def test_offered_schemas_are_json_schemas(samples: list[Sample]):
    """What is offered is valid JSON Schema, so that arguments can be held against it."""
    tools = [tool["function"]["parameters"] for sample in samples for tool in sample.metadata["tools"]]
    assert {schema["type"] for schema in tools} == {"object"}
    for parameter in {bare(each) for schema in tools for each in schema["properties"].values()}:
        Draft202012Validator.check_schema(json.loads(parameter))


def bare(schema: Any) -> str:
    """A schema without descriptions and defaults, of which there are thousands."""
    kept = {key: value for key, value in schema.items() if key not in {"description", "default"}}
    return json.dumps(kept, sort_keys=True)
