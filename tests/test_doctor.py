"""What the doctor finds on a machine."""

from pathlib import Path

import pytest

from evalsuite.doctor import Finding, examine
from evalsuite.serve.fake import install_fake


@pytest.fixture(autouse=True)
def empty_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def by_name(folder: Path | str) -> dict[str, Finding]:
    return {finding.name: finding for finding in examine(Path(folder))}


def test_says_where_llama_cpp_is_and_what_it_lacks(tmp_path: Path) -> None:
    """The build, its version and its identity are named, and each missing tool with what it is needed for."""
    found = by_name(install_fake(tmp_path))
    assert found["llama.cpp"].ok
    for part in ("fake-1", str(tmp_path / "llama-server"), "--llama-cpp", "build-v1-"):
        assert part in found["llama.cpp"].detail
    assert (found["tools"].ok, found["tools"].fix) == (None, "Run `evalsuite llama-cpp build`.")
    for part in ("llama-perplexity: the proxies", "llama-quantize: ", "llama-imatrix: ", "llama-bench: "):
        assert part in found["tools"].detail


def test_a_complete_build_lacks_nothing(tmp_path: Path) -> None:
    """With every tool beside the server there is nothing to mend."""
    install_fake(tmp_path)
    for tool in ("perplexity", "quantize", "imatrix", "bench"):
        (tmp_path / f"llama-{tool}").symlink_to("llama-server")
    assert (by_name(tmp_path)["tools"].ok, by_name(tmp_path)["tools"].fix) == (True, None)


def test_a_broken_build_is_a_finding(tmp_path: Path) -> None:
    """A folder without llama-server is reported as the search says it, and the rest is examined all the same."""
    found = by_name(tmp_path)
    assert found["llama.cpp"].ok is False
    assert f"no llama-server in {tmp_path}" in found["llama.cpp"].detail
    assert {"python", "embedded server", "compilers", "processor", "memory", "cache", "sandbox", "gpu"} <= found.keys()


def test_the_embedded_server_is_tried() -> None:
    """The embedded server is imported in a process of its own."""
    found = by_name("embedded")
    assert found["embedded server"].ok
    assert "xllamacpp" in found["embedded server"].detail


def test_a_cache_that_cannot_be_made_is_a_finding(tmp_path: Path) -> None:
    """Where the cache's folder cannot be, the finding names the place and the variable that moves it."""
    (tmp_path / "cache").write_text("a file")
    found = by_name("embedded")["cache"]
    assert found.ok is False
    assert "XDG_CACHE_HOME" in str(found.fix)


def test_missing_programs_are_not_failures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without compilers, bubblewrap and a GPU a sweep still runs: worth knowing, with what would add them."""
    monkeypatch.setenv("PATH", str(tmp_path))
    found = by_name("embedded")
    assert [found[name].ok for name in ("compilers", "sandbox", "gpu")] == [None] * 3
    assert "cmake: missing" in found["compilers"].detail
    assert "apt install cmake" in str(found["compilers"].fix)
    assert "bubblewrap" in str(found["sandbox"].fix)
