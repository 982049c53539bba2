"""Check and compare templates on every engine at hand: starts the engines, and ends them."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from evalsuite.serve.carrier import byte_carrier
from evalsuite.serve.llama_cpp import LlamaCpp
from evalsuite.template.across import across
from evalsuite.template.check import findings, gather_python, gather_server
from evalsuite.template.compare import Change, EngineComparison, compare, worst
from evalsuite.template.python_engine import PythonEngine
from evalsuite.template.records import Evidence, Finding, Outcome, Template, Verdict
from evalsuite.template.server_engine import ServerEngine

Doing = Callable[[str, float], None]
"""Called with what is being done and the share of it that is done."""


@dataclass(frozen=True)
class Examined:
    """One template, judged on every engine."""

    template: Template
    findings: tuple[Finding, ...]

    @property
    def broken(self) -> tuple[Finding, ...]:
        """Errors that are the template's own doing."""
        failing = (Outcome.SILENT, Outcome.LOUD, Outcome.DECLINED)
        return tuple(
            finding for finding in self.findings
            if finding.verdict is Verdict.FAIL and finding.check.severity == "error"
            and any(case.blame == "template" and case.outcome in failing for case in finding.cases)
        )  # fmt: skip


@dataclass(frozen=True)
class Compared:
    """Two templates, compared on every engine; `change` is the worst of them."""

    before: Template
    after: Template
    engines: tuple[EngineComparison, ...]

    @property
    def change(self) -> Change:
        """The one verdict."""
        return worst([each.change for each in self.engines])


def check_template(template: Template, builds: Sequence[LlamaCpp], doing: Doing) -> Examined:
    """Judge one template on the Python environment and on each build of llama.cpp."""
    with PythonEngine() as python:
        doing("transformers", 0.0)
        ours = gather_python(python, template)
        found = [*findings(ours)]
        for n, build in enumerate(builds):
            doing(f"llama-server {build.version}", (n + 0.5) / (len(builds) + 1))
            theirs = _on_server(template, build)
            found += [*findings(theirs), across(python, ours, theirs)]
    return Examined(template, tuple(found))


def compare_templates(
    before: Template, after: Template, builds: Sequence[LlamaCpp], doing: Doing, *, targets: Collection[str] = ()
) -> Compared:
    """Compare two templates on the Python environment and on each build of llama.cpp."""
    doing("transformers", 0.0)
    with PythonEngine() as python:
        engines = [compare(gather_python(python, before), gather_python(python, after), targets=targets)]
    for n, build in enumerate(builds):
        doing(f"llama-server {build.version}", (n + 0.5) / (len(builds) + 1))
        engines.append(compare(_on_server(before, build), _on_server(after, build), targets=targets))
    return Compared(before, after, tuple(engines))


def _on_server(template: Template, build: LlamaCpp) -> Evidence:
    with ServerEngine(build, template, byte_carrier()) as server:
        return gather_server(server, template)
