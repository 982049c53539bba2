"""What the stored answers earn, and whether they are answers to the same questions."""

from dataclasses import replace

from toys import Bench

from evalsuite.analysis import analyse
from evalsuite.export import read_tables
from evalsuite.score import other_prompts
from evalsuite.store import Store


def test_other_prompts_than_the_references_are_named():
    """An arm whose prompts differ on samples that the reference was asked as well is named with their number."""
    reference = {("chat", "a", 0): "1", ("chat", "b", 0): "2", ("raw", "a", 0): "3"}
    other = {("chat", "a", 0): "9", ("chat", "b", 0): "2", ("chat", "c", 0): "4", ("raw", "a", 0): "3"}
    found = other_prompts({"F16": reference, "Q4_0": other}, "F16")
    assert found == [{"quant": "Q4_0", "task": "chat", "differing": 1, "n": 2}]


def test_other_prompts_fail_a_gate(bench: Bench):
    """The report's checks fail where prompts differ, naming quant and task, and pass where all are equal."""
    analysis = bench.run().analysis
    assert {row["name"]: row["passed"] for row in analysis["gates"]}["same prompts as the reference"] is True
    with Store(bench.folder / "results") as store:
        tables = read_tables(store)
    other = [{"quant": "big", "task": "echo", "differing": 3, "n": 4}]
    gates = analyse(replace(tables, header=dict(tables.header) | {"other_prompts": other}))["gates"]
    gate = next(row for row in gates if row["name"] == "same prompts as the reference")
    assert (gate["passed"], gate["detail"]) == (False, "big × echo (3 of 4)")
