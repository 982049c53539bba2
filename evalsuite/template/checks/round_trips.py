"""P: calls that are written by the template and read back by the server's parser."""

import json
from collections.abc import Sequence

from evalsuite.template.records import Case, Check, Evidence, Judge, Outcome, Trip
from evalsuite.template.round_trip import JOURNEYS, calls_of, came_back, closer_journeys

_FAILED = {"render": Outcome.LOUD, "extract": Outcome.INCONCLUSIVE, "parse": Outcome.LOUD}


def _uncalibrated(evidence: Evidence) -> list[Case]:
    """Return why no round trip can be judged; nothing where they can."""
    if evidence.engine.name != "llama-server":
        return [Case("plain", Outcome.NOT_APPLICABLE, "only the server parses answers")]
    plain = evidence.trips.get("plain")
    if plain is None or not came_back(JOURNEYS["plain"], plain):
        reason = plain.reason or "a plain call does not come back" if plain else "the template did not get so far"
        return [Case("plain", Outcome.INCONCLUSIVE, f"not calibrated: {reason}")]
    return []


def _trips(*names: str) -> Judge:
    return lambda evidence: _uncalibrated(evidence) or [_returned(name, evidence.trips[name]) for name in names]


def _closers(evidence: Evidence) -> list[Case]:
    names = [name for name in evidence.trips if name.startswith("closer ")]
    none = [Case("closers", Outcome.NOT_APPLICABLE, "the format closes nothing")]
    return _uncalibrated(evidence) or [_returned(name, evidence.trips[name]) for name in names] or none


def _returned(name: str, trip: Trip) -> Case:
    journey = JOURNEYS.get(name) or closer_journeys([name])[name]
    seen = (json.dumps([trip.written, trip.message and calls_of(trip.message), trip.failure, trip.reason]),)
    if trip.failure is not None:
        return Case(
            name,
            _FAILED[trip.failure],
            trip.reason,
            seen=seen,
            blame="engine" if trip.failure == "parse" else "template",
        )
    assert trip.message is not None and trip.written is not None  # noqa: S101, PT018 - it did not fail
    if came_back(journey, trip):
        lost = journey.content and journey.content not in str(trip.message.get("content"))
        return Case(
            name, Outcome.SILENT if lost else Outcome.OK, "the text beside the call is lost" if lost else "", seen=seen
        )
    got = calls_of(trip.message)
    values = [value for _, arguments in journey.calls for value in arguments.values()]
    detail = f"{_short(journey.calls)} came back as {_short(got) if got else 'no call'}"
    # Numbers are formatted by the engine; any other value that is not in the text was lost by the template.
    kept = all(type(value) in (int, float) or _is_in(value, trip.written) for value in values)
    return Case(name, Outcome.SILENT, detail, seen=seen, blame="engine" if kept else "template")


def _is_in(value: object, written: str) -> bool:
    forms = [json.dumps(value), json.dumps(value, ensure_ascii=False), json.dumps(value, separators=(",", ":"))]
    return any(form in written for form in forms) or (isinstance(value, str) and value in written)


def _short(calls: Sequence[object]) -> str:
    text = json.dumps(calls, ensure_ascii=False)
    return text if len(text) < 160 else f"{text[:160]}…"


def _streamed(evidence: Evidence) -> list[Case]:
    return _uncalibrated(evidence) or [_as_plain("streamed", evidence.trips["streamed"])]


def _as_plain(name: str, trip: Trip) -> Case:
    if trip.message is not None and came_back(JOURNEYS["plain"], trip):
        return Case(name, Outcome.OK, seen=("ok",))
    return Case(name, Outcome.LOUD, trip.reason or "the streamed call is another", seen=(trip.reason,), blame="engine")


def _prefixes(evidence: Evidence) -> list[Case]:
    if cases := _uncalibrated(evidence):
        return cases
    trip = evidence.trips["prefixes"]
    outcome = Outcome.OK if trip.message is not None else Outcome.LOUD
    detail = f"after {trip.written!r}: {trip.reason}" if trip.failure else ""
    return [Case("prefixes", outcome, detail, seen=(trip.reason,), blame="engine")]


def _tolerance(evidence: Evidence) -> list[Case]:
    if cases := _uncalibrated(evidence):
        return cases
    told = []
    for name in (name for name in evidence.trips if name.startswith("variant ")):
        trip = evidence.trips[name]
        calls = trip.message and calls_of(trip.message)
        kept = trip.message and str(trip.message.get("content") or "").strip()
        what = (
            "refused"
            if trip.message is None
            else "read as a call"
            if calls
            else "kept as text"
            if kept
            else "lost silently"
        )
        told.append(Case(name.removeprefix("variant "), Outcome.OK, what, seen=(what,)))
    return told


def _check(
    number: int, title: str, prop: str, catches: str, issue: int, severity: str, judge: Judge, core: bool = True
) -> Check:
    known = f"https://github.com/ggml-org/llama.cpp/issues/{issue}"
    return Check(f"P{number:02}", title, prop, catches, known, severity, judge, core=core, needs="calls")  # type: ignore[arg-type]


_SAME = "value and type are equal"
CHECKS = (
    _check(1, "A plain value comes back", _SAME, "a format that its parser does not read", 20260, "error",
           _trips("plain", "empty")),
    _check(2, "Quotes, backslashes, line ends, edges", _SAME, "escaping, trimming", 20198, "error",
           _trips("double quotes", "single quotes", "backslashes", "newlines", "tabs", "edge spaces", "edge newlines")),
    _check(3, "Letters of the world", _SAME, "encoding", 20198, "warning",
           _trips("accents", "CJK", "emoji", "U+2028", "NUL"), core=False),
    _check(4, "Markup", _SAME, "HTML escaping", 20198, "warning", _trips("markup"), core=False),
    _check(5, "Text that looks like something else", "strings stay strings", "types confused", 20198, "error",
           _trips("an object as a string", "a number as a string", "a boolean as a string")),
    _check(6, "Text with the format's own closers", _SAME, "a value cut short", 20260, "warning", _closers),
    _check(7, "Large integers", _SAME, "64-bit wrap", 20198, "warning", _trips("-7", "2^53+1", "2^63-1", "2^64-1")),
    _check(8, "Fractions", _SAME, "lost digits", 20198, "warning", _trips("pi", "2.0", "1e-7", "1e22")),
    _check(9, "true and false", _SAME, "Python literals", 24178, "error", _trips("true", "false")),
    _check(10, "null", _SAME, "None, or the word null", 24178, "error", _trips("null", "the word null")),
    _check(11, "Objects and lists", _SAME, "values lost inside", 24178, "warning", _trips("nested", "list")),
    _check(12, "Optional arguments and their order", "the call is parsed whatever the order", "order rules of the parser",
           27363, "error", _trips("no arguments", "optional left out", "optional before required",
           *(name for name in JOURNEYS if name.startswith("order "))), core=False),
    _check(13, "Two calls come back", "both are parsed", "separators", 20260, "error",
           _trips("two calls of one tool", "two calls of two tools"), core=False),
    _check(14, "Text beside a call comes back", "text and call, both whole", "leaks", 20260, "error", _trips("text and call"),
           core=False),
    _check(15, "Streamed as whole", "the deltas join to the same call", "partial parse not monotone", 13774, "error",
           _streamed),
    _check(16, "Every beginning of a call", "none is refused, arguments only grow", "partial parse not monotone", 13774,
           "warning", _prefixes, core=False),
    _check(17, "Calls not quite right", "told, not judged", "calls lost silently", 20260, "information",
           _tolerance, core=False),
    _check(18, "Names of tools come back", "dashes, dots and 64 letters", "names that are mangled", 20260, "warning",
           _trips("name with a dash", "name with a dot", "name of 64 letters"), core=False),
)  # fmt: skip
