"""How busy a run kept the server: prompt and generation time of its answers over slots × the time spent asking.

    uv run python benchmarks/slots_busy.py RESULTS

RESULTS is the directory of a run that asked everything in one go, such as `demo/results` after the first `make demo`.
The time of an answer is the server's own (`prompt_ms` + `predicted_ms`); asking lasts from the first question of an arm
to its last stored answer, without loading and proxies. Exits with 2 where the last run asked nothing or only a part.
"""

import sys
from pathlib import Path

import orjson
from rich.console import Console
from rich.table import Table

from evalsuite.store import Store


def main() -> int:
    """Print a row an arm and their total."""
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    with Store(Path(sys.argv[1])) as store:
        arms = store.get_meta("arms") or []
        slots = int(store.get_meta("header")["server"]["parallel"])
        started = {detail.removeprefix("instance "): arm for _, kind, arm, detail in store.events() if kind == "start"}
        worked: dict[str, float] = {}
        for instance, timings in store.db.execute("SELECT instance, timings FROM generation"):
            spent = orjson.loads(timings)
            seconds = (spent.get("prompt_ms", 0.0) + spent.get("predicted_ms", 0.0)) / 1000
            worked[started[instance]] = worked.get(started[instance], 0.0) + seconds
    if not arms or any(arm["reused"] or arm["new"] != arm["planned"] for arm in arms):
        sys.stderr.write("The last run of this directory reused answers: its times tell nothing about them.\n")
        return 2
    table = Table("arm", title=f"{slots} slots", title_justify="left")
    for name in ("samples", "asking s", "slots busy %"):
        table.add_column(name, justify="right")
    for arm in arms:
        busy = worked[arm["arm"]] / slots / arm["asking_s"]
        table.add_row(arm["arm"], str(arm["new"]), f"{arm['asking_s']:.1f}", f"{100 * busy:.1f}")
    asking_s = sum(arm["asking_s"] for arm in arms)
    busy = sum(worked.values()) / slots / asking_s
    table.add_row("all", str(sum(arm["new"] for arm in arms)), f"{asking_s:.1f}", f"{100 * busy:.1f}")
    Console().print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
