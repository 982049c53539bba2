"""From a profile to llama-server's arguments: everything explicit, so that nothing adapts from quant to quant."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from evalsuite.errors import SpecError, did_you_mean
from evalsuite.identity import text_sha256
from evalsuite.shipped import shipped
from evalsuite.spec import ServerEntry, read_yaml

RESERVED = {
    "model", "host", "port", "alias", "api-key", "api-key-file", "parallel", "ctx-size", "threads", "threads-batch",
    "chat-template-file", "cache-type-k", "cache-type-v", "reasoning-format", "metrics", "fit", "kv-unified",
}  # fmt: skip
"""Flags that evalsuite sets itself; a profile that names one is refused."""


SPARE = 6
"""Connections beside those of the completions under way: prompts are rendered and tokenised over them, health is read."""


class Profile(BaseModel):
    """How a model is served. `ctx` is tokens per slot; `flags` are llama-server's long names without the dashes."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str
    description: str = ""
    ctx: Annotated[int, Field(gt=0)] = 2048
    parallel: Annotated[int, Field(gt=0)] = 4
    threads: Annotated[int, Field(gt=0)] | Literal["auto", "all"] = "auto"
    flags: Mapping[str, bool | int | float | str] = Field(default_factory=dict)


def read_profile(entry: ServerEntry, folder: Path) -> Profile:
    """Return the profile that a sweep names, with the sweep's own values in place of the profile's.

    A name is looked up in the shipped `servers/`; anything with a slash or `.yaml` is a path, relative to `folder`.
    Raises SpecError for an unknown profile, a reserved flag, or `false` where the negative flag belongs.
    """
    if "/" in entry.profile or entry.profile.endswith((".yaml", ".yml")):
        profile = read_yaml(folder / Path(entry.profile).expanduser(), Profile)
    else:
        known = profiles()
        if entry.profile not in known:
            raise SpecError(f"server: no profile named {entry.profile!r}.{did_you_mean(entry.profile, known)}")
        profile = known[entry.profile]
    given = {key: getattr(entry, key) for key in ("ctx", "parallel", "threads") if getattr(entry, key) is not None}
    profile = profile.model_copy(update={**given, "flags": {**profile.flags, **entry.flags}})
    if profile.ctx % 256:
        nearest = -(-profile.ctx // 256) * 256
        raise SpecError(
            f"server: ctx: {profile.ctx} is not a multiple of 256, which llama-server rounds to; say {nearest}."
        )
    for name, value in profile.flags.items():
        if name in RESERVED or name.startswith("-"):
            raise SpecError(
                f"server: the flag {name!r} is set by evalsuite itself or written with dashes; use `ctx`, `parallel`, "
                "`threads`, `templates` or `kv_cache`, and write flags without dashes."
            )
        if value is False:
            raise SpecError(f"server: write the negative flag itself (`no-{name}: true`), not `{name}: false`.")
    return profile


def profiles() -> dict[str, Profile]:
    """Return the shipped profiles by name."""
    files = [file for file in shipped("servers").iterdir() if file.name.endswith(".yaml")]
    read = [read_yaml(Path(file.name), Profile, text=file.read_text(encoding="utf-8")) for file in files]
    return {profile.name: profile for profile in sorted(read, key=lambda profile: profile.name)}


def thread_count(profile: Profile) -> int:
    """Resolve `all`, the physical cores, and `auto`, one less and at least 1, since evalsuite and the tasks need one too."""
    if isinstance(profile.threads, int):
        return profile.threads
    return _physical_cores() if profile.threads == "all" else max(1, _physical_cores() - 1)


def launch_settings(profile: Profile, *, kv_cache: str, template: str | None, seed: int) -> dict[str, Any]:
    """Return what decides the numerics of a server apart from the model file: the launch part of every key.

    `template` is the text of a Jinja file that replaces the model's own, or None.
    """
    return {
        "ctx": profile.ctx, "parallel": profile.parallel, "threads": thread_count(profile), "kv_cache": kv_cache,
        "template": None if template is None else text_sha256(template), "seed": seed,
        "flags": {name: profile.flags[name] for name in sorted(profile.flags)},
    }  # fmt: skip


def in_flight(slots: int) -> int:
    """Return how many completions to keep under way: every slot busy, and half as many waiting at the server's door.

    When one batch ends all its slots come free at once, and what waits at the door fills them: with 8 slots 90 % were busy
    at 1.25 times the slots, 93 to 94 % at 1.5 to 2 times.
    """
    return slots + max(2, slots // 2)


def arguments(
    profile: Profile, *, model: Path, host: str, port: int, alias: str, kv_cache: str, template: Path | None, seed: int
) -> list[str]:
    """Return llama-server's arguments, without the program; `host` is an address or a path that ends in `.sock`.

    Context shift, the shared KV pool, the host-side prompt cache and `--fit` are off: each of them changes answers or
    the context from quant to quant, or has crashed servers. The prompt cache is off unless the profile says `cache-prompt`.
    There is an HTTP thread for each of our connections, which keeps it also when idle, and two for whoever looks in.
    """
    threads = str(thread_count(profile))
    words = [
        "--model", str(model), "--host", host, "--port", str(port), "--alias", alias,
        "--parallel", str(profile.parallel), "--ctx-size", str(profile.parallel * profile.ctx), "--no-kv-unified",
        "--fit", "off", "--threads", threads, "--threads-batch", threads,
        "--cache-type-k", kv_cache, "--cache-type-v", kv_cache,
        "--no-context-shift", "--cache-ram", "0", "--ctx-checkpoints", "0", "--metrics", "--timeout", "3600",
        "--threads-http", str(in_flight(profile.parallel) + SPARE + 2), "--seed", str(seed), "--jinja",
        "--reasoning-format", "none", "--offline", "--no-webui", "--log-timestamps", "--log-prefix", "--log-verbosity", "3",
    ]  # fmt: skip
    if template is not None:
        words += ["--chat-template-file", str(template)]
    if not any(name in profile.flags for name in ("cache-prompt", "no-cache-prompt")):
        words += ["--no-cache-prompt"]
    for name, value in profile.flags.items():
        words += [f"--{name}"] if value is True else [f"--{name}", str(value)]
    return words


def _physical_cores() -> int:
    """Count physical cores that this process may use; logical ones where the kernel does not tell."""
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    siblings = set()
    for cpu in allowed:
        topology = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
        siblings.add(topology.read_text(encoding="ascii").strip() if topology.exists() else str(cpu))
    return len(siblings)
