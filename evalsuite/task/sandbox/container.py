"""A container engine that answers, Docker or Podman, with an image that is there already; the driver runs inside."""

import shutil
import subprocess
from collections.abc import Iterator

from evalsuite.errors import MachineError
from evalsuite.task.sandbox.driver import FILE_BYTES, OPEN_FILES, PROCESSES
from evalsuite.task.sandbox.interpreter import environment
from evalsuite.task.sandbox.process import NOBODY, driver_source
from evalsuite.task.sandbox.records import Description, Launch, Sandbox

IMAGE = "python:3.11-slim"
_BOX = "/box"


def engines() -> Iterator[str]:
    """Yield the container engines on PATH."""
    yield from (found for name in ("docker", "podman") if (found := shutil.which(name)))


def container(engine: str) -> Sandbox:
    """Describe a sandbox by a container without network. Raises MachineError where the engine or the image is missing."""
    try:
        said = subprocess.run(
            [engine, "image", "inspect", "--format", "{{.Id}}", IMAGE],
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise MachineError(f"{engine} does not answer: {error}") from error
    if said.returncode:
        raise MachineError(
            f"{engine}: {said.stderr.strip()} (it must run, and have the image: `{engine} pull {IMAGE}`)"
        )

    def launch(packages: tuple[str, ...]) -> Launch:
        if packages:
            raise MachineError(f"the image {IMAGE} has no {', '.join(packages)}: install bubblewrap.")
        flags = (
            "--rm --interactive --network none --read-only --cap-drop ALL --security-opt no-new-privileges --pull never "
            f"--tmpfs {_BOX}:size=64m,mode=1777 --shm-size 1m --pids-limit {PROCESSES} --user {NOBODY}:{NOBODY} "
            f"--workdir {_BOX}"
        ).split()
        inside = [f"--env={name}={value}" for name, value in environment(_BOX).items() if name != "PATH"]
        return Launch(
            command=(
                engine,
                "run",
                *flags,
                *inside,
                IMAGE,
                "python",
                "-s",
                "-S",
                "-P",
                "-X",
                "utf8",
                "-c",
                driver_source(),
            ),
            environ=environment("/"),
            place={"path": [], "clean": [_BOX, "/dev/shm"]},  # noqa: S108 - inside
        )

    return Sandbox(
        Description(
            kind="container",
            version=engine,
            interpreter=IMAGE,
            interpreter_sha256=said.stdout.strip(),
            fixed={"file_bytes": FILE_BYTES, "open_files": OPEN_FILES, "processes": PROCESSES},
            notes=("Programs cannot import numpy.",),
        ),
        launch,
    )
