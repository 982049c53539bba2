"""Faults of the server, injected by the public fake: each ends in the outcome that the taxonomy names, and nothing else."""

import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from toys import HURRY, Bench

from evalsuite.run import Silent
from evalsuite.serve.fake import tokenize
from evalsuite.serve.serving import Patience
from evalsuite.store import Store
from evalsuite.sweep import open_sweep, run_sweep


def outcomes(bench: Bench, task: str, arm: str = "ref") -> Counter[str]:
    return Counter(row[5] for row in bench.items() if row[1] == task and row[0] == arm)


def events(bench: Bench) -> Counter[str]:
    with Store(bench.folder / "results") as store:
        return Counter(kind for _, kind, arm, _ in store.events() if arm == "ref")


def one_reply(reply: object, *, times: int | None = None, match: str = "Word 2 comes") -> dict:
    return {"replies": [{"match": match, "times": times, "reply": reply}]}


@pytest.mark.parametrize(
    ("reply", "outcome"),
    [
        ("400_overflow", "overflow"),
        ("500_tool_parse", "tool_parse_error"),
        ("null_content", "empty"),
        ("length", "truncated"),
        ("500", "transport_error"),
        ("html", "transport_error"),
        ("broken_json", "transport_error"),
        ("empty_body", "transport_error"),
        ("no_choices", "transport_error"),
        ("truncated_body", "transport_error"),
        ("close", "transport_error"),
    ],
)
def test_reply_ends_in_its_outcome(bench: Bench, reply: str, outcome: str):
    """A reply that one sample always gets ends in its outcome, and every other sample is asked and scored."""
    bench.faults(one_reply(reply))
    bench.write(tasks=["echo"], replicate_reference=False)
    finished = bench.run()
    rows = {row[2]: (row[5], row[7]) for row in bench.items() if row[0] == "ref"}
    spoilt = rows.pop("echo-2")
    assert spoilt[0] == outcome
    assert (spoilt[1] is None) == (outcome == "transport_error")
    assert all(value is not None for _, value in rows.values())
    assert finished.is_complete == (outcome != "transport_error")


@pytest.mark.parametrize(
    "reply", ["500", "html", "broken_json", "empty_body", "truncated_body", "503", "502", "429", "close"]
)
def test_passing_fault_leaves_no_trace(bench: Bench, reply: str):
    """A fault that passes is asked again, and the answer is the one that an undisturbed server gives."""
    bench.write(tasks=["echo"], replicate_reference=False)
    bench.run()
    undisturbed = bench.items()
    bench.write(out="again")
    bench.faults(one_reply(reply, times=1))
    with Store(bench.folder / "again") as store:
        assert run_sweep(open_sweep(bench.path, store, llama_cpp=bench.fake), patience=HURRY).is_complete
        assert store.items() == undisturbed


@pytest.mark.parametrize("reply", ["503", "502", "429"])
def test_refusal_for_the_time_being_does_not_last_for_ever(bench: Bench, reply: str):
    """A sample that is always told to come later is given up as not_run; the others are asked and scored."""
    bench.faults(one_reply(reply))
    bench.write(tasks=["echo"], replicate_reference=False)
    bench.run(patience=replace(HURRY, bystander=2))
    assert outcomes(bench, "echo")["not_run"] == 1
    assert sum(row[7] is not None for row in bench.items() if row[0] == "ref") == 3


def test_reply_without_tokens_is_asked_again(bench: Bench):
    """A 200 of the tokenizer without tokens in it is garbage: asked again, and then the sample is unscored."""
    bench.write(tasks=["ends"], replicate_reference=False)
    bench.faults(one_reply("no_choices", times=1))
    assert bench.run().is_complete
    bench.write(out="again")
    bench.faults(one_reply("no_choices"))
    with Store(bench.folder / "again") as store:
        assert not run_sweep(open_sweep(bench.path, store, llama_cpp=bench.fake), patience=HURRY).is_complete
        assert Counter(row[5] for row in store.items() if row[0] == "ref") == {"ok": 3, "transport_error": 1}


def test_quant_whose_probabilities_are_no_numbers_fails_alone(bench: Bench):
    """A quant whose logits are NaN is refused with that reason before it is asked anything; the others are complete."""
    bench.faults({"state": str(bench.folder / "state.json"), **one_reply("nan", match="/completion", times=1)})
    bench.write(tasks=["ends"], replicate_reference=False)
    finished = bench.run()
    assert {arm.arm: arm.status for arm in finished.arms} == {"ref": "failed", "big": "ok", "small": "ok"}
    assert "not numbers" in finished.arms[0].reason


def test_probabilities_that_are_no_numbers_are_no_answer(bench: Bench):
    """A NaN among the probabilities of options is garbage: asked again, then unscored; other tasks are scored."""
    checked = {"match": '"samplers"', "times": 1, "reply": None}
    bench.faults({"replies": [checked, {"match": '"samplers"', "reply": "nan"}]})
    bench.write(tasks=["letters", "ends"], replicate_reference=False)
    bench.run()
    assert outcomes(bench, "letters") == {"transport_error": 4}
    assert outcomes(bench, "ends") == {"ok": 4}


def test_reasoning_is_kept_apart(bench: Bench):
    """A thinking block in front of the answer is stored as reasoning, and the answer is scored without it."""
    bench.faults(one_reply("reasoning"))
    bench.write(tasks=["echo"])
    bench.run()
    with Store(bench.folder / "results") as store:
        outputs = [output for _, output in store.answers(store.get_meta("identities")["ref"][0]).values()]
    thought = [output for output in outputs if output.reasoning]
    assert thought
    assert all("think" not in output.text and output.reasoning == "Let me see." for output in thought)


def test_crash_is_survived(bench: Bench):
    """A server that dies once is restarted, and what was in flight is asked again: nothing is missing."""
    bench.faults({"crash_after": 9, "state": str(bench.folder / "state.json")})
    assert bench.run().is_complete
    assert events(bench)["crash"] >= 1


def test_poisonous_sample_is_singled_out(bench: Bench):
    """A prompt that kills the server whenever it is asked is given up as server_died; its neighbours are scored."""
    bench.faults(one_reply("crash"))
    bench.write(tasks=["echo"], replicate_reference=False)
    bench.run()
    assert outcomes(bench, "echo")["server_died"] == 1
    assert sum(row[7] is not None for row in bench.items() if row[0] == "ref") == 3


def test_server_that_always_dies_fails_its_quant_only(bench: Bench):
    """A quant whose server never answers is given up after three restarts; the others are complete."""
    bench.faults({"state": str(bench.folder / "state.json"), **one_reply("crash", match="/v1/chat", times=4)})
    bench.write(tasks=["echo"], replicate_reference=False)
    finished = bench.run()
    assert {arm.arm: arm.status for arm in finished.arms} == {"ref": "failed", "big": "ok", "small": "ok"}
    assert "died 4 times" in finished.arms[0].reason
    assert not finished.is_complete


def test_wedged_server_is_killed(bench: Bench):
    """A server that is healthy, deaf and decodes nothing is killed by the token watchdog, restarted, and asked again."""
    bench.faults({"hang_after": 9, "state": str(bench.folder / "state.json")})
    assert bench.run().is_complete
    assert events(bench)["wedged"] >= 1


def test_long_prompt_is_no_wedge(bench: Bench):
    """While a prompt is read the decode counter stands still, for as long as the server's pace says it must."""
    bench.faults({"prompt_token_s": 0.03})
    bench.write(tasks=[{"task": "ends", "limit": 2}], quants=["models/small.gguf"], replicate_reference=False)
    assert bench.run(patience=Patience(wedge_s=0.2, watch_s=0.05, backoff_s=0.01)).is_complete
    assert events(bench)["wedged"] == 0


def test_deadline_knows_the_pace_after_a_restart(bench: Bench):
    """Replies of one token, which are all that a new process has given, do not shorten the deadline of long ones."""
    bench.faults({"token_s": 0.05, "crash_after": 6, "state": str(bench.folder / "state.json")})
    bench.write(tasks=["echo"], quants=["models/small.gguf"], replicate_reference=False)
    assert bench.run(patience=Patience(grace_s=0.25, backoff_s=0.01)).is_complete
    assert events(bench)["crash"] == 1


def test_request_that_is_never_answered_times_out(bench: Bench):
    """One request without an answer is tried once more and then unscored as a timeout; the server lives on."""
    bench.faults(one_reply("hang"))
    bench.write(tasks=["echo"], replicate_reference=False)
    bench.run(patience=Patience(grace_s=1))
    assert outcomes(bench, "echo")["timeout"] == 1
    assert events(bench)["crash"] == 0


def test_shared_context_stops_the_quant(bench: Bench):
    """A 500 that says the context was exceeded is our launch being wrong: the quant stops at once, nothing is scored 0."""
    bench.faults(one_reply("500_context", match="/v1/chat"))
    bench.write(tasks=["echo"], replicate_reference=False)
    finished = bench.run()
    assert {arm.status for arm in finished.arms} == {"failed"}
    assert "shares one context" in finished.arms[0].reason
    assert all(row[7] is None for row in bench.items())


def test_lost_device_is_tried_once_more(bench: Bench):
    """A compute error restarts the server once; the second one fails the quant."""
    bench.faults(one_reply("500_compute", match="/v1/chat"))
    bench.write(tasks=["echo"], replicate_reference=False)
    finished = bench.run()
    assert "device failed again" in finished.arms[0].reason
    assert events(bench)["start"] == 2


def test_refused_request_stops_its_task_only(bench: Bench):
    """A 400 of another kind stops the task it came from; the quant's other tasks are asked."""
    bench.faults(one_reply("400", match="/v1/chat"))
    finished = bench.run()
    assert "echo" in finished.arms[0].reason
    assert outcomes(bench, "echo") == {"not_run": 4}
    assert outcomes(bench, "ends") == {"ok": 4}


def test_refused_task_leaves_the_proxies(bench: Bench):
    """An arm that had a task refused has its proxies measured all the same."""
    (bench.folder / "words.txt").write_text("The people of the world " * 20)
    bench.faults(one_reply("400", match="/v1/chat"))
    proxy = {"tool": "forced", "text": "words.txt", "ctx": 16, "chunks": 2, "n_probs": 5}
    bench.write(tasks=["echo"], proxies=[proxy], replicate_reference=False)
    assert {arm.status for arm in bench.run().arms} == {"failed"}
    with Store(bench.folder / "results") as store:
        assert len(store.proxies()) == 3


def test_text_of_too_few_tokens_costs_no_answers(bench: Bench):
    """A proxy's text that turns out too short under the model's tokens fails the proxy; what was asked is scored."""
    (bench.folder / "words.txt").write_text(" people" * 60)
    proxy = {"tool": "forced", "text": "words.txt", "ctx": 256, "chunks": 1, "n_probs": 5}
    bench.write(tasks=["ends"], proxies=[proxy], replicate_reference=False)
    finished = bench.run()
    assert all("60 tokens" in arm.reason or "not been measured" in arm.reason for arm in finished.arms)
    assert all(row[5] == "ok" for row in bench.items())


def test_nothing_is_asked_behind_the_back_of_a_refused_sample(bench: Bench):
    """When one of a sample's requests is refused, the other one ends with it, and no second server is started for it."""
    refused, hanging = (" ".join(f"<[{token}]>" for token in tokenize(text)) for text in (" of the", " and not"))
    bench.faults({"replies": [{"match": refused, "reply": "400"}, {"match": hanging, "reply": "hang"}]})
    bench.write(tasks=[{"task": "ends", "limit": 1}], replicate_reference=False)
    finished = bench.run()
    assert "tasks stopped by the server's refusal: ends" in finished.arms[0].reason
    assert events(bench)["start"] == 1


def test_texts_are_asked_for_first(bench: Bench):
    """Whatever the order of the tasks, samples that are answered with a text are asked before those that are scored."""
    asked: list[str] = []

    class Watching(Silent):
        def phase(self, arm: str, doing: str) -> None:
            if arm == "ref" and doing in {"ends", "letters", "echo"}:
                asked.append(doing)

    with Store(bench.folder / "results") as store:
        opened = open_sweep(bench.write(), store, llama_cpp=bench.fake)
        run_sweep(opened, progress=Watching(), patience=HURRY)
    assert asked == ["echo"] * 4 + ["ends"] * 4 + ["letters"] * 4


def test_long_temporary_folder(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A TMPDIR too long for the path of a socket does not keep a server from listening."""
    folder = tmp_path / ("long" * 30)
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    bench.write(tasks=["ends"], replicate_reference=False)
    assert bench.run().is_complete


def test_flooded_log_is_cut(bench: Bench):
    """A server that floods its log leaves at most its last 256 KiB on the disk."""
    bench.faults({"flood_log": 2_000_000})
    assert bench.run().is_complete
    assert all(log.stat().st_size <= 256 * 1024 for log in (bench.folder / "results" / "logs").iterdir())


@pytest.mark.live
def test_server_that_cannot_load_says_why(bench: Bench):
    """A model that the real server cannot load ends in the last error lines of its log, and where the log lies."""
    bench.write(tasks=["echo"], replicate_reference=False)
    with Store(bench.folder / "results") as store:
        finished = run_sweep(open_sweep(bench.path, store, llama_cpp=Path("embedded")), patience=HURRY)
    assert {arm.status for arm in finished.arms} == {"failed"}
    assert "failed to load" in finished.arms[0].reason
    assert ".log" in finished.arms[0].reason
