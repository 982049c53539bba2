"""The command line: each command is one call of the library; results on stdout, talk on stderr, JSON with --json.

Exit status: 0 fine, 1 the work found failures, 2 the user's input is wrong, 3 the machine lacks something.
"""

import json
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from evalsuite import __version__
from evalsuite.errors import EvalsuiteError, SpecError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable

    from evalsuite.serve.llama_cpp import LlamaCpp
    from evalsuite.task.sandbox.records import Sandbox
    from evalsuite.task.tasks import Task

app = typer.Typer(
    add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None,
    help="What quantisation really did to a model: real tasks on every GGUF quant, each compared with the reference on the "
    "same samples, beside perplexity and KL divergence.",
    epilog="Start with `evalsuite demo`. Exit status: 0 fine, 1 the work found failures, 2 your input is wrong, 3 the machine "
    "lacks something.",
)  # fmt: skip
llama_cpp_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Build llama.cpp for this machine.")
app.add_typer(llama_cpp_app, name="llama-cpp")
template_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Find out what is wrong with a chat template, and what a fix did to it.",
)
app.add_typer(template_app, name="template")

AsJson = Annotated[
    bool, typer.Option("--json", help="Print one JSON document on stdout; everything else goes to stderr.")
]
LlamaCppFolder = Annotated[
    Path | None,
    typer.Option("--llama-cpp", metavar="DIR", help="A llama.cpp build to use, or the word `embedded`."),
]
LlamaCppFolders = Annotated[
    list[Path] | None,
    typer.Option(
        "--llama-cpp",
        metavar="DIR",
        help="A llama.cpp build to use, or the word `embedded`; may be given more than once.",
    ),
]
SweepFile = Annotated[Path, typer.Argument(metavar="SWEEP", help="A sweep.yaml; README.md shows one.")]
Data = Annotated[
    list[str] | None,
    typer.Option("--data", metavar="TASK=PATH", help="Take a task's data from a local file or folder."),
]

SandboxKind = Annotated[
    str,
    typer.Option(
        "--sandbox", metavar="KIND",
        help="What programs of the model run in: auto, bubblewrap, container, landlock, or none.",
    ),
]  # fmt: skip
Unsandboxed = Annotated[
    bool,
    typer.Option(
        "--allow-unsandboxed-code", help="With --sandbox none: let programs of the model do all that you can."
    ),
]

Publish = Annotated[
    bool,
    typer.Option(
        "--publish", help="Write the figures as SVG and PNG and the tables as CSV and Markdown beside the page."
    ),
]


@app.command()
def demo(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where to work.")] = Path("demo"),
    full: Annotated[
        bool, typer.Option("--full", help="Ask every sample instead of the subset that fits in minutes.")
    ] = False,
    llama_cpp: LlamaCppFolder = None,
    as_json: AsJson = False,
) -> None:
    """Show the whole job on a small real model: eight servers, five tasks, one report."""
    from evalsuite.demo import make_demo
    from evalsuite.progress import Screen

    with Screen() as screen:
        sweep = make_demo(folder, full=full, say=lambda text: screen.phase("demo", text))
    _run(sweep, llama_cpp=llama_cpp, accept_changes=True, data=None, opener=_sandbox("auto", False), as_json=as_json)


@app.command()
def run(
    sweep: SweepFile,
    llama_cpp: LlamaCppFolder = None,
    accept_changes: Annotated[
        bool,
        typer.Option("--accept-changes", help="Go on although the sweep changed so that old answers no longer count."),
    ] = False,
    data: Data = None,
    sandbox: SandboxKind = "auto",
    allow_unsandboxed_code: Unsandboxed = False,
    as_json: AsJson = False,
) -> None:
    """Serve every quant of a sweep, ask what is not answered yet, and write the report. Run again to resume."""
    opener = _sandbox(sandbox, allow_unsandboxed_code)
    _run(sweep, llama_cpp=llama_cpp, accept_changes=accept_changes, data=data, opener=opener, as_json=as_json)


def _sandbox(kind: str, allow_unsandboxed: bool) -> "Callable[[], Sandbox]":
    from evalsuite.task.sandbox.backends import open_sandbox

    return partial(open_sandbox, kind, allow_unsandboxed=allow_unsandboxed)


def _run(
    sweep: Path, *, llama_cpp: Path | None, accept_changes: bool, data: list[str] | None,
    opener: "Callable[[], Sandbox]", as_json: bool,
) -> None:  # fmt: skip
    from evalsuite.progress import Screen
    from evalsuite.store import Store
    from evalsuite.sweep import open_sweep, out_folder, run_sweep

    with Store(out_folder(sweep)) as store, Screen() as screen:
        opened = open_sweep(
            sweep, store, llama_cpp=llama_cpp, data=_data(data), accept_changes=accept_changes, progress=screen
        )
        for change in opened.changes:
            screen.say(f"changed since the last run: {change}")
        finished = run_sweep(opened, progress=screen, open_place=opener)
        for problem in finished.problems:
            screen.say(problem)
    arms = [vars(arm) for arm in finished.arms]
    _show(finished.analysis, finished.report, as_json=as_json, more={"arms": arms, "problems": finished.problems})
    raise typer.Exit(finished.exit_code)


@app.command()
def plan(sweep: SweepFile, llama_cpp: LlamaCppFolder = None, data: Data = None, as_json: AsJson = False) -> None:
    """Check a sweep; say what it would ask, what that costs, and what it could show. No model is served."""
    from evalsuite.estimate import DISCORDANCE, hours_left, task_costs
    from evalsuite.progress import Screen
    from evalsuite.run import unanswered
    from evalsuite.store import Store
    from evalsuite.sweep import open_sweep, out_folder
    from evalsuite.task.room import ROUGH

    with Store(out_folder(sweep)) as store, Screen() as screen:
        opened = open_sweep(
            sweep, store, llama_cpp=llama_cpp, data=_data(data), accept_changes=True, remember=False, progress=screen
        )
        planned = opened.plan
        costs = task_costs(planned, ROUGH.count_tokens)
        rows = []
        for arm in planned.arms:
            artifact = arm.quant.facts.artifact_id if arm.quant.facts else ""
            left = unanswered(planned, arm, store, artifact, planned.launch(arm))
            rows.append({
                "arm": arm.name, "planned": planned.n_samples, "to_ask": len(left),
                "hours": hours_left(planned, costs, left, store, artifact),
            })  # fmt: skip
    if as_json:
        _print_json({
            "arms": rows, "tasks": [vars(cost) for cost in costs], "server": opened.llama_cpp.version,
            "changes": opened.changes, "assumed_discordance": DISCORDANCE,
        })  # fmt: skip
        return
    typer.echo(f"{'task':<24} {'samples':>12} {'prompt tokens':>14} {'answer tokens':>14}  smallest difference, points")
    for cost in costs:
        samples = f"{cost.samples:,} × {cost.repeats}"
        shown = f"{_points(cost.mde)}, {_points(cost.mde_family)} corrected"
        typer.echo(
            f"{cost.task:<24} {samples:>12} {cost.prompt_tokens:>14,} {'≤ ' + f'{cost.answer_tokens:,}':>14}  {shown}"
        )
    for row in rows:
        hours = "" if row["hours"] is None else f", about {row['hours']:.1f} h"
        typer.echo(f"{row['arm']:<24} {row['to_ask']:>6,} of {row['planned']:,} samples to ask{hours}")
    typer.echo(
        "Tokens are those of one quant, at four bytes each. Differences are found with 80 % power where "
        f"{100 * DISCORDANCE:.0f} % of the answers change."
    )
    if any(row["to_ask"] and row["hours"] is None for row in rows):
        typer.echo("Hours are told once each task has some answers: run with a small `limit` first.")


def _points(share: float | None) -> str:
    return "none" if share is None else f"{100 * share:.1f}"


@app.command()
def proxies(sweep: SweepFile, llama_cpp: LlamaCppFolder = None, as_json: AsJson = False) -> None:
    """Measure the proxies of a sweep (PPL, KLD) without asking its tasks."""
    from evalsuite.progress import Screen
    from evalsuite.store import Store
    from evalsuite.sweep import measure_proxies, open_sweep, out_folder

    with Store(out_folder(sweep)) as store, Screen() as screen:
        opened = open_sweep(sweep, store, llama_cpp=llama_cpp, progress=screen)
        rows, problems = measure_proxies(opened, progress=screen)
        for problem in problems:
            screen.say(problem)
    if as_json:
        _print_json({"proxies": rows, "problems": problems})
    else:
        for row in rows:
            shown = {"PPL": "ppl", "KLD": "kld_mean"}
            if row["tool"] == "llama-bench":
                shown = {"pp t/s": "pp_tps", "tg t/s": "tg_tps"}
            figures = (f"{name} {'–' if row[key] is None else f'{row[key]:.6f}'}" for name, key in shown.items())
            typer.echo(f"{row['quant']:<24} {row['corpus'] or '–':<12} {row['tool']:<16} {'  '.join(figures)}")
    raise typer.Exit(1 if problems else 0)


@app.command()
def score(
    what: Annotated[str, typer.Argument(metavar="SWEEP|TASK", help="A sweep.yaml, or with --outputs a task's name.")],
    outputs: Annotated[
        Path | None,
        typer.Option(
            "--outputs", metavar="FILE", help="JSONL of {sample_id, output}: answers of the task from anywhere."
        ),
    ] = None,
    llama_cpp: LlamaCppFolder = None,
    data: Data = None,
    sandbox: SandboxKind = "auto",
    allow_unsandboxed_code: Unsandboxed = False,
    as_json: AsJson = False,
) -> None:
    """Score the stored answers of a sweep again, or answers of one task from anywhere; asks nothing."""
    opener = _sandbox(sandbox, allow_unsandboxed_code)
    if outputs is not None:
        _score_outputs(what, outputs, data=data, opener=opener, as_json=as_json)
        return
    from evalsuite.progress import Screen
    from evalsuite.store import Store
    from evalsuite.sweep import finish, open_sweep, out_folder

    sweep = Path(what)
    with Store(out_folder(sweep)) as store, Screen() as screen:
        opened = open_sweep(sweep, store, llama_cpp=llama_cpp, data=_data(data), progress=screen)
        finished = finish(opened, arms=[], problems=[], progress=screen, open_place=opener)
    _show(finished.analysis, finished.report, as_json=as_json, more={})
    raise typer.Exit(finished.exit_code)


def _score_outputs(
    name: str, outputs: Path, *, data: list[str] | None, opener: "Callable[[], Sandbox]", as_json: bool
) -> None:
    from evalsuite.numbers import percent
    from evalsuite.outputs import as_json as document
    from evalsuite.outputs import grade, read_outputs

    task = _task(name, data)
    scored = document(task, grade(task, read_outputs(task, outputs), opener))
    if as_json:
        _print_json(scored)
        return
    for row in scored["samples"]:
        value = "–" if row["score"] is None else f"{row['score']:.3f}"
        typer.echo(f"{row['sample_id']:<24} {value:>6}  {row['outcome']:<16} {row['answer'] or ''}")
    interval = f"[{percent(scored['low'])}, {percent(scored['high'])}]"
    typer.echo(f"{name}: {percent(scored['score'])} {interval}, n = {scored['n']}")


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A results directory.")],
    publish: Publish = False,
    as_json: AsJson = False,
) -> None:
    """Write the report of a results directory again."""
    from evalsuite.export import read_tables
    from evalsuite.report.write import write_report
    from evalsuite.store import Store

    with Store(_existing(folder)) as store:
        analysis, page = write_report(read_tables(store), folder)
    _show(analysis, page, as_json=as_json, more=_published(analysis, folder, publish))


@app.command()
def correlate(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE...",
            help="Tables of proxies, scores or samples (CSV, TSV, JSONL, Parquet, or pasted from a page), lm-eval's "
            "samples_*.jsonl, or folders of them.",
        ),
    ],
    reference: Annotated[
        str | None, typer.Option("--reference", metavar="QUANT", help="What to compare with; default: the largest.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where to write.")] = Path("correlate"),
    publish: Publish = False,
    as_json: AsJson = False,
) -> None:
    """Say what tables from anywhere prove about perplexity, KLD and size; no server, no model, no run."""
    from evalsuite.importer.read import read_files
    from evalsuite.report.write import write_report

    analysis, page = write_report(read_files(files, reference=reference), out)
    _show(analysis, page, as_json=as_json, more=_published(analysis, out, publish))


@app.command()
def export(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A results directory.")],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Where to write; default DIR/export.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write proxies, scores and items as CSV, JSONL and Parquet, and a manifest with their hashes."""
    from evalsuite.export import export as write
    from evalsuite.store import Store

    with Store(_existing(folder)) as store:
        written = [str(path) for path in write(store, out or folder / "export")]
    if as_json:
        _print_json({"files": written})
    else:
        typer.echo("\n".join(written))


@app.command()
def tasks(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="A task; without one all are listed.")] = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """List tasks and suites, or show one task with its first sample."""
    from evalsuite.task.tasks import read_task_file, suites, task_folders

    if name is not None:
        _show_task(name, data, as_json=as_json)
        return
    listed = {key: read_task_file(folder).title for key, folder in task_folders().items()}
    known = {key: [entry.task for entry in suite.tasks] for key, suite in suites().items()}
    if as_json:
        _print_json({"tasks": listed, "suites": known})
        return
    for key, title in listed.items():
        typer.echo(f"{key:<20} {title}")
    for key, members in known.items():
        typer.echo(f"suite {key:<14} {', '.join(members)}")
    typer.echo("lm-eval:NAME         any task of lm-eval")


def _show_task(name: str, data: list[str] | None, *, as_json: bool) -> None:
    task = _task(name, data)
    first = task.samples[0]
    if as_json:
        _print_json({
            "task": task.name, "version": task.version, "title": task.title, "description": task.description,
            "chance": task.chance, "n": len(task.samples), "signature": task.signature, "notes": task.notes,
            "sample": {
                "sample_id": first.sample_id, "prompt": first.prompt, "choices": first.choices, "target": first.target,
                "tools": first.metadata.get("tools", ()),
            },
        })  # fmt: skip
        return
    typer.echo(f"{task.title} ({task.name}, version {task.version}): {len(task.samples)} samples, chance {task.chance}")
    typer.echo("\n".join([task.description, *task.notes]))
    turns = first.prompt if not isinstance(first.prompt, str) else ({"role": "text", "content": first.prompt},)
    shown = "\n".join(f"[{turn['role']}] {turn.get('content') or turn.get('tool_calls')}" for turn in turns)
    for tool in first.metadata.get("tools", ()):
        shown += f"\n[tool] {json.dumps(tool['function'], ensure_ascii=False)}"
    typer.echo(f"\n{first.sample_id}\n{shown}\nchoices: {list(first.choices)}\ntarget: {first.target!r}")


def _task(name: str, data: list[str] | None) -> "Task":
    """Load one task by its name, from the data that was given for it."""
    from evalsuite.spec import TaskEntry
    from evalsuite.task.tasks import expand, load

    given = _data(data)
    if unknown := sorted(given.keys() - {name}):
        raise SpecError(f"--data: {', '.join(unknown)}: not the task that was asked for, {name}.")
    entries = expand([TaskEntry(task=name, data=given.get(name))])
    if [entry.task for entry in entries] != [name]:
        raise SpecError(f"{name} is a suite. Name one of its tasks: {', '.join(entry.task for entry in entries)}.")
    return load(entries[0], base=Path.cwd())


@app.command()
def servers(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="A profile; without one all are listed.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the server profiles, or show one with the flags it gives to llama-server."""
    from evalsuite.serve.launch import arguments, profiles

    known = profiles()
    if name is None:
        if as_json:
            _print_json({key: profile.model_dump() for key, profile in known.items()})
            return
        for key, profile in known.items():
            typer.echo(f"{key:<14} {profile.parallel} × {profile.ctx} tokens. {profile.description}")
        return
    if name not in known:
        raise SpecError(f"no profile named {name!r}.{did_you_mean(name, known)}")
    words = arguments(
        known[name],
        model=Path("MODEL.gguf"),
        host="SOCKET",
        port=0,
        alias="NAME",
        kv_cache="f16",
        template=None,
        seed=1,
    )
    if as_json:
        _print_json({**known[name].model_dump(), "arguments": words})
    else:
        typer.echo(f"{known[name].description}\nllama-server {' '.join(words)}")


@app.command()
def doctor(llama_cpp: LlamaCppFolder = None, as_json: AsJson = False) -> None:
    """Say what was found on this machine, what is missing, and the command that fixes it."""
    from evalsuite.doctor import examine

    findings = examine(llama_cpp)
    if as_json:
        _print_json({"findings": [vars(finding) for finding in findings]})
    else:
        for finding in findings:
            mark = {True: "ok", False: "missing", None: "-"}[finding.ok]
            typer.echo(
                f"{mark:<8} {finding.name}: {finding.detail}"
                + (f"\n         fix: {finding.fix}" if finding.fix else "")
            )
    raise typer.Exit(3 if any(finding.ok is False for finding in findings) else 0)


@llama_cpp_app.command("build")
def build(
    cmake_arg: Annotated[
        list[str] | None, typer.Option("--cmake-arg", metavar="ARG", help="Passed to cmake, e.g. -DGGML_CUDA=ON.")
    ] = None,
    jobs: Annotated[
        int | None, typer.Option("--jobs", min=1, help="Compilers side by side; default: all cores.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Build the pinned llama.cpp source into the user's cache; `run` finds it there."""
    from evalsuite.progress import Screen
    from evalsuite.serve.build import build_llama_cpp

    with Screen() as screen:
        built = build_llama_cpp(cmake_args=cmake_arg or [], jobs=jobs, progress=screen.share)
    if as_json:
        _print_json({"version": built.version, "server": built.server, "tools": built.tools})
    else:
        typer.echo(f"llama.cpp {built.version}: {' '.join(built.server)}")


@template_app.command("check")
def template_check(
    given: Annotated[
        list[str],
        typer.Argument(
            metavar="TEMPLATE...",
            help="A .jinja file, a folder of them, a GGUF, a tokenizer_config.json, or a server's URL.",
        ),
    ],
    llama_cpp: LlamaCppFolders = None,
    whole: Annotated[bool, typer.Option("--all", help="Print the checks that pass as well.")] = False,
    as_json: AsJson = False,
) -> None:
    """Check a template for tool calls, on the Python environment of transformers and on llama-server; loads no model."""
    from rich.console import Console

    from evalsuite.progress import Screen
    from evalsuite.report.templates import examined_json, print_examined
    from evalsuite.template.examine import check_template
    from evalsuite.template.read import read_templates

    templates = [template for each in given for template in read_templates(each)]
    builds = _builds(llama_cpp)
    examined = []
    for template in templates:
        with Screen() as screen:
            examined.append(check_template(template, builds, screen.share))
        if not as_json:
            print_examined(examined[-1], Console(), whole=whole)
    if as_json:
        _print_json([examined_json(each) for each in examined])
    raise typer.Exit(1 if any(each.broken for each in examined) else 0)


@template_app.command("compare")
def template_compare(
    before: Annotated[str, typer.Argument(metavar="BEFORE", help="The template as it was; like those of `check`.")],
    after: Annotated[str, typer.Argument(metavar="AFTER", help="The template as it was mended.")],
    target: Annotated[
        list[str] | None,
        typer.Option("--target", metavar="ID", help="A check that the change is to mend; default all."),
    ] = None,
    llama_cpp: LlamaCppFolders = None,
    as_json: AsJson = False,
) -> None:
    """Say what a change to a template fixed, broke, masked or left alone; loads no model."""
    from rich.console import Console

    from evalsuite.progress import Screen
    from evalsuite.report.templates import compared_json, print_compared
    from evalsuite.template.checks import CHECKS
    from evalsuite.template.examine import compare_templates
    from evalsuite.template.read import read_templates

    known = [check.id for check in CHECKS]
    for id_ in target or []:
        if id_ not in known:
            raise SpecError(f"--target {id_}: no such check.{did_you_mean(id_, known)}")
    pair = []
    for given in (before, after):
        found = read_templates(given)
        if len(found) > 1:
            raise SpecError(f"{given}: {len(found)} templates; one is compared with one. Give a .jinja file.")
        pair += found
    builds = _builds(llama_cpp)
    with Screen() as screen:
        compared = compare_templates(pair[0], pair[1], builds, screen.share, targets=target or ())
    if as_json:
        _print_json(compared_json(compared))
    else:
        print_compared(compared, Console())
    raise typer.Exit(1 if compared.change in ("REGRESSED", "MASKED") else 0)


def _builds(folders: list[Path] | None) -> "list[LlamaCpp]":
    from evalsuite.serve.llama_cpp import find_llama_cpp

    return [find_llama_cpp(folder) for folder in folders] if folders else [find_llama_cpp(None)]


def _data(pairs: list[str] | None) -> dict[str, str]:
    for pair in pairs or []:
        if "=" not in pair:
            raise SpecError(f"--data {pair}: TASK=PATH was expected.")
    return dict(pair.split("=", 1) for pair in pairs or [])


def _published(analysis: Mapping[str, Any], folder: Path, publish: bool) -> Mapping[str, Any]:
    """Write the figures and tables if asked to; return what to say of it."""
    if not publish:
        return {}
    from evalsuite.report.publish import publish as write

    return {"published": [str(path) for path in write(analysis, folder)]}


def _existing(folder: Path) -> Path:
    if not (folder / "results.sqlite3").is_file():
        raise SpecError(f"{folder}: not a results directory: no results.sqlite3 in it. `evalsuite run` makes one.")
    return folder


def _show(analysis: Mapping[str, Any], page: Path, *, as_json: bool, more: Mapping[str, Any]) -> None:
    if as_json:
        _print_json({**more, "report": str(page), "analysis": analysis})
        return
    from rich.console import Console

    from evalsuite.report.terminal import print_table

    print_table(analysis, Console())
    typer.echo(f"\nreport: {page}")


def _print_json(document: Any) -> None:
    typer.echo(json.dumps(document, indent=2, ensure_ascii=False, default=str))


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit


def main() -> int:
    """Run the command line; an error that is not a bug is one message without a traceback."""
    try:
        return int(app(standalone_mode=False) or 0)
    except EvalsuiteError as error:
        typer.echo(f"evalsuite: {error}", err=True)
        return error.exit_code
    except typer.TyperException as error:
        typer.echo(f"evalsuite: {error.format_message()} `evalsuite --help` lists what there is.", err=True)
        return 2
    except (KeyboardInterrupt, typer.Abort):
        typer.echo("evalsuite: stopped. Everything that was answered is kept; run the same command to go on.", err=True)
        return 130


if __name__ == "__main__":
    sys.exit(main())
