"""Finding llama.cpp, and telling two builds apart."""

import os
import re
import sys
from pathlib import Path

import pytest

from evalsuite.errors import MachineError, SpecError
from evalsuite.serve.fake import install_fake
from evalsuite.serve.llama_cpp import build_id, built_folder, find_llama_cpp


@pytest.fixture(autouse=True)
def empty_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def program(path: Path, says: str = "echo 'version: 7 (abc)' >&2") -> Path:
    """Write an executable shell script and return the folder that it is in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{says}\n")
    path.chmod(0o755)
    return path.parent


@pytest.mark.parametrize("place", ["", "bin", "build/bin"])
def test_a_folder_is_a_build_or_its_bin(tmp_path: Path, place: str) -> None:
    """A named folder is the root of a build, its bin/ or its build/bin/; the version is what the server says."""
    folder = program(tmp_path / "llama" / place / "llama-server")
    found = find_llama_cpp(tmp_path / "llama", environ={})
    assert (found.kind, found.origin, found.version) == ("build", "--llama-cpp", "7 (abc)")
    assert found.server == (str(folder / "llama-server"),)


def test_the_first_place_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The order is --llama-cpp, $EVALSUITE_LLAMA_CPP, PATH, our own build, the embedded server, and nothing."""
    named, variable, path = (program(tmp_path / name / "llama-server") for name in ("named", "variable", "path"))
    program(built_folder() / "bin" / "llama-server")
    environ = {"EVALSUITE_LLAMA_CPP": str(variable), "PATH": f"{path}:/bin:/usr/bin"}
    found = [find_llama_cpp(named, environ=environ), find_llama_cpp(environ=environ)]
    del environ["EVALSUITE_LLAMA_CPP"]
    found.append(find_llama_cpp(environ=environ))
    environ["PATH"] = "/bin:/usr/bin"
    found.append(find_llama_cpp(environ=environ))
    (built_folder()).rename(tmp_path / "gone")
    found.append(find_llama_cpp(environ=environ))
    assert [Path(it.server[0]).parent for it in found[:4]] == [named, variable, path, built_folder() / "bin"]
    assert found[4].server == (sys.executable, "-m", "evalsuite.serve.embedded")
    assert len({it.origin for it in found}) == 5
    monkeypatch.setitem(sys.modules, "xllamacpp", None)
    with pytest.raises(MachineError, match=r"pip install xllamacpp.*evalsuite llama-cpp build"):
        find_llama_cpp(environ=environ)


def test_embedded_can_be_asked_for(tmp_path: Path) -> None:
    """The word `embedded` asks for the embedded server though PATH has another."""
    found = find_llama_cpp(Path("embedded"), environ={"PATH": str(program(tmp_path / "llama-server"))})
    assert (found.kind, found.tools) == ("embedded", {})


def test_tools_are_looked_for_beside_the_server(tmp_path: Path) -> None:
    """The tools are those that lie beside the server, or beside what a link on PATH points to."""
    build = program(tmp_path / "build" / "llama-server")
    program(build / "llama-quantize")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "llama-server").symlink_to(build / "llama-server")
    program(tmp_path / "bin" / "llama-bench")
    found = find_llama_cpp(environ={"PATH": f"{tmp_path}/bin:/bin:/usr/bin"})
    assert found.tools == {"quantize": build / "llama-quantize", "bench": tmp_path / "bin" / "llama-bench"}


LOADER = (
    "llama-server: error while loading shared libraries: libllama.so.0: cannot open shared object file: No such file"
)
BROKEN = {
    f"echo '{LOADER}' >&2; exit 127": r"lacks the shared library libllama\.so\.0.*`(ldd|otool -L) ",
    "kill -ILL $$": r"killed by signal 4.*another processor",
    "echo 'Segmentation fault' >&2; exit 139": r"ended with code 139.*Segmentation fault",
    "echo 'usage: something else'": r"no version.*usage: something else",
}


@pytest.mark.parametrize("says", BROKEN)
def test_a_server_that_does_not_run_is_refused(tmp_path: Path, says: str) -> None:
    """A server that cannot tell its version is refused, named, with the reason, in every place where it was found."""
    folder = program(tmp_path / "llama-server", says)
    for search in (
        {"folder": folder},
        {"environ": {"EVALSUITE_LLAMA_CPP": str(folder)}},
        {"environ": {"PATH": str(folder)}},
    ):
        with pytest.raises(SpecError, match=rf"(?s){re.escape(str(folder / 'llama-server'))}.*{BROKEN[says]}"):
            find_llama_cpp(**search)


def test_files_that_are_no_programs_are_refused(tmp_path: Path) -> None:
    """A file without leave to be run, a text, and a script whose interpreter is missing are told apart."""
    server = tmp_path / "llama-server"
    for text, mode, why in (
        ("#!/bin/sh\n", 0o644, "is not executable.*chmod"),
        ("some text", 0o755, "is not a program for this machine"),
        ("#!/no/such/loader\n", 0o755, "needs a loader"),
    ):
        server.write_text(text)
        server.chmod(mode)
        with pytest.raises(SpecError, match=f"{re.escape(str(server))} {why}"):
            find_llama_cpp(tmp_path)


def test_a_folder_without_a_server_is_refused(tmp_path: Path) -> None:
    """The message names the folder and every place looked at, and a folder that does not exist is called that."""
    with pytest.raises(SpecError, match=rf"{re.escape(str(tmp_path))}/build/bin/llama-server"):
        find_llama_cpp(tmp_path)
    with pytest.raises(SpecError, match=r"\$EVALSUITE_LLAMA_CPP: .*/nowhere does not exist"):
        find_llama_cpp(environ={"EVALSUITE_LLAMA_CPP": str(tmp_path / "nowhere")})


def test_settings_in_the_environment_do_not_reach_the_server(tmp_path: Path) -> None:
    """LLAMA_ARG_* are kept from the server that is asked for its version."""
    folder = program(tmp_path / "llama-server", 'test -z "$LLAMA_ARG_PORT" && echo "version: 1"')
    assert find_llama_cpp(folder, environ={"LLAMA_ARG_PORT": "no number"}).version == "1"


def test_the_fake_passes_for_a_build(tmp_path: Path) -> None:
    """A folder with the installed fake is found like a build."""
    assert find_llama_cpp(install_fake(tmp_path / "fake", {"delay_s": 0})).version == "fake-1"


def copy_of_build(folder: Path, library: bytes = b"code") -> Path:
    program(folder / "llama-server")
    (folder / "libggml-cpu.so.0.1").write_bytes(library)
    if not (folder / "libggml-cpu.so").exists():
        (folder / "libggml-cpu.so").symlink_to("libggml-cpu.so.0.1")
    return folder


def test_build_id_is_about_the_code(tmp_path: Path) -> None:
    """The same files in two folders are one build; another library, or other visible devices, make another."""
    one, two, three = (copy_of_build(tmp_path / name, code) for name, code in (("a", b"x"), ("b", b"x"), ("c", b"y")))
    (two / "notes.txt").write_text("not code")
    same, also, other = (build_id(find_llama_cpp(folder), environ={}) for folder in (one, two, three))
    assert re.fullmatch(r"build-v1-[0-9a-f]{16}", same)
    assert (same == also, same == other) == (True, False)
    assert build_id(find_llama_cpp(one), environ={"CUDA_VISIBLE_DEVICES": "1"}) != same
    assert build_id(find_llama_cpp(Path("embedded")), environ={}) not in {same, other}


@pytest.mark.llama_cpp
def test_a_real_build(tmp_path: Path) -> None:
    """A real build is found with its tools, and libraries that lie elsewhere count for its identity."""
    if not os.environ.get("EVALSUITE_LLAMA_CPP"):
        pytest.skip("EVALSUITE_LLAMA_CPP names no build of llama.cpp")
    found = find_llama_cpp()
    assert found.tools.keys() == {"perplexity", "quantize", "imatrix", "bench"}
    (tmp_path / "llama-server").symlink_to(found.server[0])
    assert build_id(find_llama_cpp(tmp_path)) == build_id(found)
