"""One served arm for as long as it is needed: started, proven to be what was asked, watched, restarted, stopped."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from evalsuite.errors import ServerError
from evalsuite.serve.client import DeadlineError, Endpoint, RefusedError, ServerGoneError
from evalsuite.serve.outcomes import Action
from evalsuite.serve.process import FLOOD_BYTES, KEPT_LOG_BYTES, Address, ServerProcess, error_lines, keep_tail

_UNREACHED = (ServerGoneError, DeadlineError, RefusedError)


@dataclass(frozen=True)
class Patience:
    """How long and how often to try; tests make it short.

    A server with requests in flight whose decode counter stands still for `wedge_s` is killed; a request that takes
    `grace_s` longer than four times what its tokens should is cancelled; after `restarts` restarts
    with no answer in between the arm is given up; `garbage` and `timeouts` are retries of one request, `strikes` the number
    of crashes after which a request that was tried alone is given up, and `bystander` of those that it only stood beside.
    """

    wedge_s: float = 60.0
    grace_s: float = 60.0
    watch_s: float = 2.0
    backoff_s: float = 0.5
    restarts: int = 3
    garbage: int = 2
    timeouts: int = 1
    strikes: int = 3
    bystander: int = 20


@dataclass(frozen=True)
class Expected:
    """What a server must say of itself before it is asked anything."""

    model: Path
    model_bytes: int
    n_ctx: int
    slots: int
    n_vocab: int
    template: str | None


class Serving:
    """A server that is started again when it dies; `instance` names the present process."""

    def __init__(
        self, program: Sequence[str], arguments: Callable[[ServerProcess], list[str]], expected: Expected, *, log: Path,
        cache_prompt: bool, patience: Patience, note: Callable[[str, str], None], unchanged: Callable[[], bool],
    ) -> None:  # fmt: skip
        """`note` is told (kind, detail) of every event; `unchanged` says whether the model file is still the one asked for."""
        self.instance = ""
        self.instances: list[str] = []
        self.endpoint: Endpoint | None = None
        self.in_flight = 0
        self._program, self._arguments, self._expected = tuple(program), arguments, expected
        self._log, self._cache_prompt, self.patience, self._note = log, cache_prompt, patience, note
        self._unchanged = unchanged
        self._process: ServerProcess | None = None
        self._restarting = asyncio.Lock()
        self._restarts = 0
        self._device_lost = False
        self._canary: float | None = None
        self._failure: ServerError | None = None

    async def ready(self) -> Endpoint:
        """Return the endpoint of a running server, waiting while it restarts; raises ServerError once it is given up."""
        async with self._restarting:
            if self._failure is not None:
                raise self._failure
            if self.endpoint is None:
                await self._bring_up(None, device_lost=False)
            assert self.endpoint is not None  # noqa: S101 - _start sets it or raises
            return self.endpoint

    def progressed(self) -> None:
        """Note that an answer came: the server works."""
        self._restarts = 0

    async def recover(self, broken: Endpoint, reason: str, *, device_lost: bool = False) -> bool:
        """Restart after `broken` failed; False when the server is alive and healthy, so that only one reply was lost.

        Raises ServerError when the server has been restarted too often without an answer in between.
        """
        async with self._restarting:
            if self._failure is not None:
                raise self._failure
            if self.endpoint is not broken:
                return True  # another request has already brought it back
            if not device_lost and await self._is_alive(broken):
                return False
            await self._bring_up(reason, device_lost=device_lost)
            return True

    async def finish(self) -> None:
        """Check that the server still serves what it served at the start; raises ServerError `wrong_model`."""
        if self.endpoint is None or self._canary is None:
            return
        if not self._unchanged():
            raise ServerError(f"{self._expected.model} was replaced while it was served.", kind="wrong_model")
        with suppress(*_UNREACHED):  # a server that died after its last answer changes nothing
            canary = await self.endpoint.canary()
            if abs(canary - self._canary) > 0.05 * max(1.0, abs(self._canary)):
                raise ServerError(
                    f"the log-probability of a fixed text was {self._canary:.3f} at the start and is {canary:.3f} now: "
                    "the server does not serve what it did.",
                    kind="wrong_model",
                )

    async def close(self) -> None:
        """Stop the server."""
        await self._stop()

    async def watch(self) -> None:
        """Kill a server that has requests in flight and decodes nothing; cut a log that floods the disk. Runs until cancelled.

        `/health` stays green in a wedged server, so the decode counter is what is watched.
        """
        last, since = None, time.monotonic()
        while True:
            await asyncio.sleep(self.patience.watch_s)
            if self._log.exists() and self._log.stat().st_size > FLOOD_BYTES:
                keep_tail(self._log, KEPT_LOG_BYTES)
            endpoint, process = self.endpoint, self._process
            if endpoint is None or process is None or self.in_flight == 0:
                last, since = None, time.monotonic()
                continue
            decoded = await endpoint.decoded()
            if decoded is not None and decoded != last:
                last, since = decoded, time.monotonic()
            elif time.monotonic() - since > self.patience.wedge_s:
                self._note(
                    "wedged", f"no token for {self.patience.wedge_s:g} s with {self.in_flight} requests in flight"
                )
                process.kill()
                last, since = None, time.monotonic()

    async def _bring_up(self, reason: str | None, *, device_lost: bool) -> None:
        """Start, and start again while the server dies over its first questions; `reason` is why it has to be restarted."""
        try:
            while True:
                if reason is not None:
                    self._count_restart(reason, device_lost=device_lost)
                    await self._stop()
                    await asyncio.sleep(self.patience.backoff_s * 2 ** (self._restarts - 1))
                try:
                    await self._start()
                except ServerError as error:
                    if error.kind != "died":
                        raise
                    reason = str(error)
                else:
                    return
        except ServerError as error:
            self._failure = error
            raise

    def _count_restart(self, reason: str, *, device_lost: bool) -> None:
        self._note("crash", f"{reason}{error_lines(self._log)}")
        if device_lost and self._device_lost:
            raise ServerError(f"the device failed again after a restart: {reason}", kind="device")
        self._device_lost = self._device_lost or device_lost
        self._restarts += 1
        if self._restarts > self.patience.restarts:
            raise ServerError(
                f"the server died {self._restarts} times with no answer in between ({reason}).{error_lines(self._log)}",
                kind="died",
            )

    async def _start(self) -> None:
        if not self._unchanged():
            raise ServerError(f"{self._expected.model} was replaced since it was read.", kind="wrong_model")
        process = ServerProcess(self._program, self._log)
        self._process = process
        try:
            process.spawn(self._arguments(process))
            address = await process.ready(self._expected.model_bytes)
            endpoint = await self._connect(address, process.alias)
        except ServerError:
            await self._stop()
            raise
        except _UNREACHED as error:
            await self._stop()
            raise ServerError(
                f"the server did not survive its first questions: {error}{error_lines(self._log)}"
            ) from error
        self.endpoint = endpoint
        self.instance = uuid4().hex
        self.instances.append(self.instance)
        self._note("start", f"instance {self.instance}")

    async def _connect(self, address: Address, alias: str) -> Endpoint:
        endpoint = Endpoint(
            address, in_flight=in_flight(self._expected.slots), cache_prompt=self._cache_prompt,
            grace_s=self.patience.grace_s,
        )  # fmt: skip
        try:
            await endpoint.read_settings()
            _check_settings(endpoint, self._expected, alias)
            await endpoint.verify_forcing()
            if self._canary is None:
                self._canary = await endpoint.canary()
        except BaseException:
            await endpoint.http.aclose()
            raise
        return endpoint

    async def _is_alive(self, endpoint: Endpoint) -> bool:
        if self._process is None or self._process.pid is None:
            return False
        try:
            await endpoint.get("/health")
        except (ServerGoneError, DeadlineError):
            return False
        except RefusedError as error:
            return error.verdict.action is Action.WAIT
        return True

    async def _stop(self) -> None:
        endpoint, self.endpoint = self.endpoint, None
        if endpoint is not None:
            await endpoint.http.aclose()
        process, self._process = self._process, None
        if process is not None:
            await process.stop()
            if endpoint is not None:
                self._note("stop", "")


class Attached(Serving):
    """A server that somebody else runs: asked, never started nor stopped.

    Its key is `EVALSUITE_API_KEY` in the environment. When it is lost, it is waited for as long as a restart would take.
    """

    def __init__(self, url: str, *, patience: Patience, note: Callable[[str, str], None]) -> None:
        expected = Expected(Path(url), 0, 0, 1, 0, None)
        super().__init__(
            (), lambda _: [], expected, log=Path(os.devnull), cache_prompt=False, patience=patience, note=note,
            unchanged=lambda: True,
        )  # fmt: skip
        self.model: Mapping[str, Any] = {}
        self._url = url

    async def _start(self) -> None:
        address = Address(self._url.rstrip("/"), None, os.environ.get("EVALSUITE_API_KEY", "none"))
        endpoint = Endpoint(address, in_flight=4, cache_prompt=False, grace_s=self.patience.grace_s)
        try:
            await endpoint.read_settings()
            endpoint.widen(in_flight(endpoint.slots))
            await endpoint.verify_forcing()
            self.model = (await endpoint.get("/v1/models"))["data"][0]
            if self._canary is None:
                self._canary = await endpoint.canary()
        except (*_UNREACHED, ServerError) as error:
            await endpoint.http.aclose()
            raise ServerError(f"{self._url}: {error}", kind="not_ready") from error
        self.endpoint = endpoint
        self.instance = uuid4().hex
        self.instances.append(self.instance)
        self._note("attach", f"{self._url} as instance {self.instance}")

    @property
    def canary_logprob(self) -> float:
        """The log-probability of the fixed text at the start, in nats."""
        if self._canary is None:
            raise RuntimeError("not connected yet")
        return self._canary


@asynccontextmanager
async def watched(serving: Serving) -> AsyncIterator[Serving]:
    """Watch a server for the length of a block, and stop it afterwards whatever happens."""
    watch = asyncio.create_task(serving.watch())
    try:
        yield serving
    finally:
        watch.cancel()
        with suppress(asyncio.CancelledError):
            await watch
        await serving.close()


def in_flight(slots: int) -> int:
    """Return how many requests to keep under way: every slot busy, and one in four waiting at the server's door."""
    return slots + max(1, slots // 4)


def effective_settings(endpoint: Endpoint) -> Mapping[str, Any]:
    """Return what the server says of itself, without what names this process: the effective half of a serve id."""
    props = endpoint.props
    return {
        "n_ctx": endpoint.n_ctx, "n_vocab": endpoint.n_vocab, "total_slots": props.get("total_slots"),
        "chat_template": props.get("chat_template"), "bos_token": props.get("bos_token"), "eos_token": props.get("eos_token"),
        "build_info": props.get("build_info"), "exact_grammar": endpoint.exact_grammar,
    }  # fmt: skip


def _check_settings(endpoint: Endpoint, expected: Expected, alias: str) -> None:
    """Prove that this is our process, our file and our context; raises ServerError."""
    if endpoint.alias != alias:
        raise ServerError(
            f"another server answers: it calls itself {endpoint.alias!r}, not {alias!r}.", kind="wrong_model"
        )
    path = str(endpoint.props.get("model_path", ""))
    if path != str(expected.model):
        raise ServerError(f"the server serves {path}, not {expected.model}.", kind="wrong_model")
    found = {
        "context per slot": (endpoint.n_ctx, expected.n_ctx),
        "slots": (endpoint.props.get("total_slots"), expected.slots),
        "vocabulary": (endpoint.n_vocab, expected.n_vocab),
    }
    for name, (got, wanted) in found.items():
        if got != wanted:
            raise ServerError(f"{name}: the server has {got}, {wanted} was asked for.", kind="wrong_settings")
    template = endpoint.props.get("chat_template")
    if expected.template is not None and template is not None and str(template).strip() != expected.template.strip():
        raise ServerError("the server uses another chat template than was asked for.", kind="wrong_settings")
