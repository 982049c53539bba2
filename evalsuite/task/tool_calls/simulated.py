"""The simulated worlds of BFCL's conversations, in a process of their own: a request a line, an answer a line, in JSON.

It stands alone: `python simulated.py FOLDER`, where FOLDER has the package `bfcl_eval`, whose classes are the worlds. A call
is looked up by its name among the methods of the conversation's worlds; nothing is ever evaluated. Each request starts
from fresh worlds, so equal requests have equal answers.

    {"world": …, "calls": [[name, positional, named], …]}                     → {"results": [text, …]}
    {"world": …, "turns": [[call, …], …], "truth": [[call, …], …]}            → {"failed": null | [turn, reason]}
"""

import copy
import importlib
import inspect
import json
import resource
import sys
from collections.abc import Mapping, Sequence
from typing import Any

MODULES = {
    "GorillaFileSystem": "gorilla_file_system", "MathAPI": "math_api", "MessageAPI": "message_api",
    "TwitterAPI": "posting_api", "TicketAPI": "ticket_api", "TradingBot": "trading_bot", "TravelAPI": "travel_booking",
    "VehicleControlAPI": "vehicle_control",
}  # fmt: skip
"""Where each class of worlds is, below `bfcl_eval.eval_checker.multi_turn_eval.func_source_code`."""

_MEMORY_BYTES = 4 << 30

Call = Sequence[Any]


class Worlds:
    """The worlds of one conversation, from their beginning on."""

    def __init__(self, world: Mapping[str, Any]) -> None:
        self.of: dict[str, Any] = {}
        for name in world["classes"]:
            module = importlib.import_module(f"bfcl_eval.eval_checker.multi_turn_eval.func_source_code.{MODULES[name]}")
            self.of[name] = getattr(module, name)()
            if name != "MathAPI":  # it has no state
                config = copy.deepcopy(world["config"].get(name, {}))
                self.of[name]._load_scenario(config, long_context=world["long_context"])  # noqa: SLF001 - upstream's own way

    def call(self, name: str, positional: Sequence[Any], named: Mapping[str, Any]) -> str:
        """Call a method and return what it gives as text; an error is a text as well."""
        found = [getattr(each, name, None) for each in self.of.values() if not name.startswith("_")]
        methods = [each for each in found if inspect.ismethod(each)]
        if not methods:
            return f"Error during execution: name {name!r} is not defined"
        try:
            result = methods[-1](*positional, **named)
        except Exception as error:  # noqa: BLE001 - whatever a call raises is its result
            return f"Error during execution: {error}"
        if isinstance(result, dict):
            try:
                return json.dumps(result)
            except TypeError:
                return str(result)
        return str(result)

    def differ(self, other: "Worlds") -> str | None:
        """Name a class whose state is not that of the other."""
        for name, ours in self.of.items():
            theirs = vars(other.of[name])
            if any(getattr(ours, key) != value for key, value in theirs.items() if not key.startswith("_")):
                return name
        return None


def failed(world: Mapping[str, Any], turns: Sequence[Sequence[Call]], truth: Sequence[Sequence[Call]]) -> Any:
    """Return the first turn that fails, and why, by BFCL's rules; None where all pass.

    After every turn in which calls are wanted the states must be equal, and what the wanted calls gave must be among all
    that was given so far.
    """
    ours, theirs = Worlds(world), Worlds(world)
    given: list[str] = []
    for number, (made, wanted) in enumerate(zip(turns, truth, strict=True)):
        given += [ours.call(*call) for call in made]
        expected = [theirs.call(*call) for call in wanted]
        if not wanted:
            continue
        if not made:
            return number, "no call"
        if (name := ours.differ(theirs)) is not None:
            return number, f"state of {name}"
        left = list(given)
        for text in expected:
            if text not in left:
                return number, "results"
            left.remove(text)
    return None


def main() -> None:
    """Answer requests until there are no more."""
    sys.path.insert(0, sys.argv[1])
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    answers, sys.stdout = sys.stdout, sys.stderr  # some worlds print
    for line in sys.stdin:
        asked = json.loads(line)
        if "calls" in asked:
            worlds = Worlds(asked["world"])
            told: dict[str, Any] = {"results": [worlds.call(*call) for call in asked["calls"]]}
        else:
            told = {"failed": failed(asked["world"], asked["turns"], asked["truth"])}
        answers.write(json.dumps(told) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
