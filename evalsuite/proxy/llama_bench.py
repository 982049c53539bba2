"""Speed by llama.cpp's own llama-bench: tokens a second, read (`pp`) and written (`tg`).

Format: `-o json` of llama.cpp b11434, a list with an object a test. Its keys change between builds: unknown ones are left
alone, and what is missing is None.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from evalsuite.errors import MachineError
from evalsuite.proxy.programs import Tool, run_tool
from evalsuite.proxy.records import ProxyRow
from evalsuite.serve.process import error_lines


def run_bench(tool: Tool, model: Path, *, pp: int, tg: int, kv_cache: str = "f16") -> ProxyRow:
    """Measure how fast a quant reads `pp` tokens and writes `tg`; MachineError when the run fails."""
    out = tool.log.with_suffix(".json")
    settings = ["-fa", "1", "-ctk", kv_cache, "-ctv", kv_cache]
    problems = run_tool(tool, ["-m", model, "-p", pp, "-n", tg, "-o", "json", *settings], out=out)
    try:
        row = bench_row(json.loads(out.read_bytes()), pp=pp, tg=tg)
    except (ValueError, TypeError, AttributeError) as error:
        problems = problems or [f"its output is not a list of tests ({error})"]
    if problems:
        raise MachineError(f"llama-bench: {'; '.join(problems)}.{error_lines(tool.log)}")
    return row


def bench_row(tests: Sequence[Mapping[str, Any]], *, pp: int, tg: int) -> ProxyRow:
    """Read the tests of one quant: the mean of the repetitions, and its standard error where there are several."""
    reading, writing = (
        next((test for test in tests if (test.get("n_prompt"), test.get("n_gen")) == wanted), {})
        for wanted in ((pp, 0), (0, tg))
    )
    (pp_tps, pp_tps_se), (tg_tps, tg_tps_se) = _speed(reading), _speed(writing)
    missing = [f"{name} is not in its output" for name, test in (("pp", reading), ("tg", writing)) if not test]
    where = ", ".join(f"{key} {test[key]}" for test in tests[:1] for key in ("backends", "n_threads") if key in test)
    return ProxyRow(
        tool="llama-bench", pp_tps=pp_tps, pp_tps_se=pp_tps_se, tg_tps=tg_tps, tg_tps_se=tg_tps_se,
        notes=(f"tokens a second reading {pp} and writing {tg} tokens ({where or 'settings not told'})", *missing),
    )  # fmt: skip


def _speed(test: Mapping[str, Any]) -> tuple[float | None, float | None]:
    samples = np.array(test.get("samples_ts") or [], float)
    if not len(samples):
        return test.get("avg_ts"), None
    return float(samples.mean()), float(samples.std(ddof=1) / np.sqrt(len(samples))) if len(samples) > 1 else None
