"""What a plan costs and can show, said before anything is asked."""

import json

import pytest
from toys import Bench
from typer.testing import CliRunner

from evalsuite.cli import app
from evalsuite.estimate import DISCORDANCE
from evalsuite.stats.paired import mde


def plan_of(bench: Bench) -> dict:
    done = CliRunner().invoke(app, ["plan", str(bench.write()), "--llama-cpp", str(bench.fake), "--json"])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_a_plan_says_tokens_and_the_smallest_difference(bench: Bench):
    """Requests, prompt tokens at four bytes each, the most that may be written, and the MDE alone and over all comparisons."""
    told = {row["task"]: row for row in plan_of(bench)["tasks"]}
    assert {name: row["requests"] for name, row in told.items()} == {"ends": 8, "letters": 4, "echo": 4}
    texts = [f"Word {n} comes before word {n + 1}{end}" for n in range(4) for end in (" of the", " and not")]
    assert told["ends"]["prompt_tokens"] == sum(-(-len(text) // 4) for text in texts)
    assert (told["echo"]["answer_tokens"], told["letters"]["answer_tokens"]) == (24, 4)
    assert told["ends"]["mde"] == (pytest.approx(mde(4, DISCORDANCE)) if mde(4, DISCORDANCE) < 1 else None)
    assert told["ends"]["mde_family"] is None  # four samples show nothing at that level


def test_hours_follow_from_answers_that_are_there(bench: Bench):
    """Before a task has answers its hours are unknown; with some they are slot time over slots, and 0 when nothing is left."""
    assert {row["hours"] for row in plan_of(bench)["arms"]} == {None}
    bench.write(tasks=[{"task": name, "limit": 2} for name in ("ends", "letters", "echo")])
    bench.run()
    assert {row["hours"] for row in plan_of(bench)["arms"]} == {0}
    bench.write(tasks=["ends", "letters", "echo"])
    hours = [row["hours"] for row in plan_of(bench)["arms"]]
    assert all(0 < each < 1 for each in hours)
