"""What is wrong with a chat template, on which engine, and what a change to it did."""

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from itertools import product
from pathlib import Path

import pytest
from gguf import GGUFWriter
from typer.testing import CliRunner

from evalsuite.cli import app, main
from evalsuite.errors import ServerError, SpecError
from evalsuite.serve.llama_cpp import find_llama_cpp
from evalsuite.template.check import findings, gather_python
from evalsuite.template.checks import CHECKS
from evalsuite.template.compare import Change, change_of, compare
from evalsuite.template.conversations import SHAPES
from evalsuite.template.examine import Compared, Examined, check_template, compare_templates
from evalsuite.template.python_engine import PythonEngine
from evalsuite.template.read import read_templates
from evalsuite.template.records import Case, Evidence, Finding, Outcome, Template, Verdict

FOLDER = Path(__file__).parent / "templates"
GOOD = (FOLDER / "xml_functions.jinja").read_text("utf-8")
GUARD = "{%- if call.function.arguments is string %}{{- raise_exception('arguments must be an object') }}{%- endif %}\n"
UNGUARDED = GOOD.replace(GUARD, "")
SKIPPED = UNGUARDED.replace(
    "{%- for name, value in (call.function.arguments or {}) | items %}",
    "{%- for name, value in (call.function.arguments if call.function.arguments is mapping else {}) | items %}",
)


def quiet(_doing: str, _share: float) -> None:
    """Show no progress."""


def on_python(source: str) -> Evidence:
    with PythonEngine() as engine:
        return gather_python(engine, Template("t", source))


def judged(source: str) -> dict[str, Finding]:
    return {finding.check.id: finding for finding in findings(on_python(source))}


def live(source: str) -> Examined:
    return check_template(Template("t", source), [find_llama_cpp(Path("embedded"))], quiet)


def compared(before: str, after: str) -> Compared:
    builds = [find_llama_cpp(Path("embedded"))]
    return compare_templates(Template("before", before), Template("after", after), builds, quiet)


def test_the_planted_defects_are_in_the_sources():
    """A guard that was not found would leave the tests below without their subject."""
    assert len({GOOD, UNGUARDED, SKIPPED}) == 3


def test_every_check_says_what_it_is():
    """Ids are unique; each check has a title, a property, what it catches and a known case."""
    assert len({check.id for check in CHECKS}) == len(CHECKS) > 60
    for check in CHECKS:
        assert all([check.title, check.property, check.catches, check.known.startswith("https://")]), check.id


@pytest.mark.live
def test_a_good_template_has_no_error_of_its_own():
    """What a template cannot help (64-bit integers, floats in the engine) is the engine's and does not break it."""
    examined = live(GOOD)
    assert [finding.check.id for finding in examined.broken] == []
    assert {f.engine.name for f in examined.findings} == {"transformers", "llama-server", "both"}
    engines = {f.check.id for f in examined.findings if f.verdict is Verdict.FAIL and f.engine.name == "llama-server"}
    assert {"P07", "P08"} <= engines


@pytest.mark.live
def test_a_fix_that_skips_what_is_no_object_is_masked():
    """As the repair of Qwen3.5: an error becomes a loss in Python, and on the server only for what is no JSON object."""
    result = compared(UNGUARDED, SKIPPED)
    python, server = result.engines
    changes = [{each.check.id: each.change for each in engine.checks} for engine in (python, server)]
    assert changes[0]["R05"] is Change.MASKED
    assert changes[1]["R05"] is Change.NO_OP
    assert changes[1]["R07"] is Change.MASKED
    assert changes[1]["R04"] is Change.NO_OP
    assert result.change is Change.MASKED
    assert set(server.diffs) == {"arguments a list", "arguments a string"}
    targeted = compare(on_python(UNGUARDED), on_python(SKIPPED), targets={"R04"})
    assert targeted.change is Change.NO_OP
    assert "R05" in {each.check.id for each in targeted.beside}


@pytest.mark.live
def test_a_comment_changes_nothing():
    """Not one byte of one rendering, on either engine."""
    result = compared(GOOD, GOOD + "{#- a comment -#}")
    assert result.change is Change.NO_OP
    assert [each.diffs for each in result.engines] == [{}, {}]


def test_a_mend_is_fixed_and_its_reverse_regressed():
    """Text beside a call is dropped, then printed."""
    dropped = GOOD.replace("{{- message.content or '' }}\n{#- calls -#}", "{#- calls -#}")
    assert dropped != GOOD
    changes = {each.check.id: each.change for each in compare(on_python(dropped), on_python(GOOD)).checks}
    assert changes["R09"] is Change.FIXED
    assert compare(on_python(GOOD), on_python(dropped)).change is Change.REGRESSED


def test_every_change_has_one_name():
    """The rules, over all pairs of outcomes."""
    bad = (Outcome.SILENT, Outcome.LOUD, Outcome.DECLINED)
    for before, after in product(Outcome, Outcome):
        change = change_of(Case("c", before, seen=("a",)), Case("c", after, seen=("b",)))
        if Outcome.INCONCLUSIVE in (before, after):
            assert change is Change.INCONCLUSIVE
        elif before is Outcome.OK and after is not Outcome.OK:
            assert change is Change.REGRESSED
        elif before in (Outcome.LOUD, Outcome.DECLINED) and after is Outcome.SILENT:
            assert change is Change.MASKED
        elif before in bad and after is Outcome.OK:
            assert change is Change.FIXED
        same = change_of(Case("c", before, seen=("a",)), Case("c", before, seen=("a",)))
        assert same is (Change.INCONCLUSIVE if before is Outcome.INCONCLUSIVE else Change.NO_OP)


HOSTILE = {
    "loops": "{% for a in range(99999) %}{% for b in range(99999) %}{% set x = a * b %}{% endfor %}{% endfor %}",
    "grows": (
        "{{ messages }}{% set ns = namespace(x='aaaaaaaa') %}"
        "{% for i in range(60) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}{{ ns.x }}"
    ),
    "multiplies": "{{ messages }}{{ 'a' * 9999999999 }}",
    "reaches": "{{ messages }}{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "imports": "{{ messages }}{% import 'os' as os %}{{ os }}",
    "includes": "{{ messages }}{% include '/etc/passwd' %}",
    "does not parse": "{% for message in messages %}{{ message.content",
}  # fmt: skip


@pytest.mark.live
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_templates_get_a_verdict(name: str):
    """Each is judged inside the limits, by both engines, and this process goes on."""
    examined = live(HOSTILE[name])
    failed = {f.check.id for f in examined.findings if f.verdict is Verdict.FAIL}
    assert failed & {"M02", "R01"}
    assert not any("root:" in text for f in examined.findings for case in f.cases for text in case.seen)


def test_a_template_that_does_not_parse_names_its_line():
    """The verdict is one failure with the line, and the rest does not apply."""
    found = judged("{{ messages }}\n{% if x %}\nnever ended")
    assert found["M02"].verdict is Verdict.FAIL
    assert found["M02"].cases[0].line in (2, 3)
    assert {finding.verdict for id_, finding in found.items() if id_ not in {"M01", "M02"}} == {Verdict.NOT_APPLICABLE}


def test_what_takes_no_tools_is_not_judged_by_them():
    """A template of text alone."""
    plain = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    found = judged(plain + "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}")
    assert {finding.verdict for finding in found.values() if finding.check.needs} == {Verdict.NOT_APPLICABLE}


def test_a_known_cause_is_told_with_its_line():
    """The message names the line and what to write instead."""
    advice = judged(UNGUARDED)["R05"].advice
    line = next(n for n, text in enumerate(UNGUARDED.splitlines(), 1) if "| items" in text)
    assert advice[0].startswith(f"line {line},")
    assert "is string" in advice[0]


def test_templates_are_read_from_everywhere(tmp_path: Path):
    """A file with and without its ending, a folder, a GGUF with two, a tokenizer's configuration, a server."""
    (tmp_path / "one.jinja").write_text(GOOD, encoding="utf-8")
    assert read_templates(str(tmp_path / "one.jinja"))[0].source == GOOD
    assert read_templates(str(tmp_path / "one"))[0].name == "one"
    assert [template.name for template in read_templates(str(tmp_path))] == ["one"]
    writer = GGUFWriter(tmp_path / "m.gguf", "llama")
    writer.add_chat_template([{"name": "default", "template": GOOD}, {"name": "tool_use", "template": SKIPPED}])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert {template.name: template.source for template in read_templates(str(tmp_path / "m.gguf"))} == {
        "m": GOOD, "m tool_use": SKIPPED,
    }  # fmt: skip
    config = tmp_path / "tokenizer_config.json"
    config.write_text(json.dumps({"chat_template": GOOD}), encoding="utf-8")
    assert read_templates(str(config))[0].source == GOOD
    config.write_text(json.dumps({"chat_template": [{"name": "tool_use", "template": GOOD}]}), encoding="utf-8")
    assert read_templates(str(config))[0].name == "tool_use"


def test_templates_are_read_from_a_server():
    """`/props` has one, and a second for tools where the model has."""

    class Props(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps({"chat_template": GOOD, "chat_template_tool_use": SKIPPED}).encode())

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Props) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        assert [template.source for template in read_templates(f"{url}/v1")] == [GOOD, SKIPPED]
        server.shutdown()
    with pytest.raises(ServerError, match="could not be read"):
        read_templates(url)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("none.jinja", None, "no such file"),
        ("empty", "folder", r"no .jinja file"),
        ("bytes.jinja", b"\xff\xfe", "not UTF-8"),
        ("a.gguf", b"no gguf at all", "not a readable GGUF"),
        ("tokenizer_config.json", b"{", "not JSON"),
        ("other.json", b"{}", "no `chat_template`"),
    ],
)
def test_what_is_no_template_is_told(tmp_path: Path, name: str, content: bytes | str | None, says: str):
    """What, where, and what next."""
    path = tmp_path / name
    if content == "folder":
        path.mkdir()
    elif isinstance(content, bytes):
        path.write_bytes(content)
    with pytest.raises(SpecError, match=says):
        read_templates(str(path))


def test_a_gguf_without_a_template_is_told(tmp_path: Path):
    """A server would take its built-in ChatML without a word."""
    writer = GGUFWriter(tmp_path / "m.gguf", "llama")
    writer.add_name("m")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(SpecError, match="no chat template in this GGUF"):
        read_templates(str(tmp_path / "m.gguf"))


@pytest.mark.live
def test_the_commands_end_with_a_status(tmp_path: Path):
    """0 where nothing is broken, 1 where something is; --json is one document with the engine and build in each verdict."""
    good, bad = tmp_path / "good.jinja", tmp_path / "bad.jinja"
    good.write_text(GOOD, encoding="utf-8")
    bad.write_text(SKIPPED, encoding="utf-8")
    run = CliRunner().invoke
    told = run(app, ["template", "check", "--llama-cpp", "embedded", "--json", str(good)])
    assert told.exit_code == 0
    (document,) = json.loads(told.stdout)
    assert all(finding["engine"]["build"] for finding in document["findings"])
    assert run(app, ["template", "check", "--llama-cpp", "embedded", str(bad)]).exit_code == 1
    told = run(app, ["template", "compare", "--llama-cpp", "embedded", "--json", str(good), str(bad)])
    assert told.exit_code == 1
    document = json.loads(told.stdout)
    assert document["change"] in ("REGRESSED", "MASKED")
    assert all(engine["blast_radius"]["of"] == len(SHAPES) for engine in document["engines"])
    told = run(app, ["template", "compare", "--llama-cpp", "embedded", str(good), str(good)])
    assert told.exit_code == 0
    assert "verdict: NO-OP" in told.stdout


def test_a_target_that_is_no_check_is_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Exit 2, and what there is."""
    monkeypatch.setattr("sys.argv", ["evalsuite", "template", "compare", "a", "b", "--target", "R5"])
    assert main() == 2
    assert "no such check" in capsys.readouterr().err
