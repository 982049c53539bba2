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
from evalsuite.serve.client import DeadlineError, Endpoint, Pace, RefusedError, ServerGoneError
from evalsuite.serve.launch import SPARE, in_flight
from evalsuite.serve.outcomes import Action
from evalsuite.serve.process import FLOOD_BYTES, KEPT_LOG_BYTES, Address, ServerProcess, error_lines, keep_tail

_UNREACHED = (ServerGoneError, DeadlineError, RefusedError)


@dataclass(frozen=True)
class Patience:
    """How long and how often to try; tests make it short.

    A server with requests in flight whose decode counter stands still for `wedge_s` is killed, or for longer where its
    steps are longer; a request that takes `grace_s` longer than four times what its tokens should is cancelled; after
    `restarts` restarts with no answer in between the arm is given up; a server at a `url` that goes away is waited for
    `away_s`. `garbage` and `timeouts` are retries of one request, `strikes` the number of crashes after which a request
    that was tried alone is given up, and `bystander` of those that it only stood beside, and of refusals for the time
    being. Before a request's next try there is a pause of `backoff_s`, twice as long each time, 10 s at most.
    """

    wedge_s: float = 60.0
    grace_s: float = 60.0
    watch_s: float = 2.0
    backoff_s: float = 0.5
    away_s: float = 120.0
    restarts: int = 3
    garbage: int = 2
    timeouts: int = 1
    strikes: int = 3
    bystander: int = 20

    def pause_s(self, tries: int) -> float:
        """Return the pause after so many tries."""
        return min(10.0, self.backoff_s * 2.0 ** (tries - 1))


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
    """A server that is started again when it dies.

    `instance` names the present process, and `canary` is the log-probability (nats) that it gave to a fixed text at first;
    one that moves by `drift_nats` is another model, or the same one broken.
    """

    drift_nats = 1.0

    def __init__(
        self, program: Sequence[str], arguments: Callable[[ServerProcess], list[str]], expected: Expected, *, log: Path,
        cache_prompt: bool, patience: Patience, note: Callable[[str, str], None], unchanged: Callable[[], bool],
    ) -> None:  # fmt: skip
        """`note` is told (kind, detail) of every event; `unchanged` says whether the model file is still the one asked for."""
        self.instance = ""
        self.instances: list[str] = []
        self.endpoint: Endpoint | None = None
        self.in_flight = 0
        self.canary: float | None = None
        self._program, self._arguments, self._expected = tuple(program), arguments, expected
        self._log, self._cache_prompt, self.patience, self._note = log, cache_prompt, patience, note
        self._unchanged = unchanged
        self._process: ServerProcess | None = None
        self._restarting = asyncio.Lock()
        self._restarts = 0
        self._device_lost = False
        self._pace = Pace()
        self._failure: ServerError | None = None

    async def ready(self) -> Endpoint:
        """Return the endpoint of a running server, waiting while it restarts; raises ServerError once it is given up."""
        async with self._alone():
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
        async with self._alone():
            if self.endpoint is not broken:
                return True  # another request has already brought it back
            if not device_lost and await self._is_alive(broken):
                broken.broke = False
                return False
            await self._bring_up(reason, device_lost=device_lost)
            return True

    async def finish(self) -> None:
        """Check that the server still serves what it served at the start; raises ServerError, `wrong_model` if it does not."""
        async with self._alone():
            if not self._unchanged():
                raise ServerError(f"{self._expected.model} was replaced while it was served.", kind="wrong_model")
            if self.endpoint is not None:
                with suppress(*_UNREACHED):  # a server that died after its last answer changes nothing
                    await self._check_canary(self.endpoint)

    async def close(self) -> None:
        """Stop the server for good: whoever still asks for it gets ServerError."""
        self._failure = self._failure or ServerError("the server was closed.")
        async with self._restarting:
            await self._stop()

    async def watch(self) -> None:
        """Kill a server that has requests in flight and decodes nothing; cut a log that floods the disk. Runs until cancelled.

        `/health` stays green in a wedged server, so the decode counter is what is watched. It moves once a step, and a step
        may read 2048 tokens of prompts: four times that, or five times the longest step seen, is no wedge yet.
        """
        last, since, longest = None, time.monotonic(), 0.0
        while True:
            await asyncio.sleep(self.patience.watch_s)
            if self._log.exists() and self._log.stat().st_size > FLOOD_BYTES:
                keep_tail(self._log, KEPT_LOG_BYTES)
            endpoint, process = self.endpoint, self._process
            if endpoint is None or process is None or self.in_flight == 0:
                last, since = None, time.monotonic()
                continue
            decoded = await endpoint.decoded()
            stood_s = time.monotonic() - since
            if decoded is not None and decoded != last:
                longest = longest if last is None else max(longest, stood_s)
                last, since = decoded, time.monotonic()
            elif stood_s > max(self.patience.wedge_s, 5 * longest, 4 * 2048 * (self._pace.prompt_token_s or 0.0)):
                self._note("wedged", f"no token for {stood_s:.0f} s with {self.in_flight} requests in flight")
                process.kill()
                last, since = None, time.monotonic()

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator[None]:
        """Decide about the server one at a time; a ServerError within gives it up for good."""
        async with self._restarting:
            if self._failure is not None:
                raise self._failure
            try:
                yield
            except ServerError as error:
                self._failure = error
                raise

    async def _bring_up(self, reason: str | None, *, device_lost: bool) -> None:
        """Start, and start again while the server dies over its first questions; `reason` is why it has to be restarted."""
        while True:
            if reason is not None:
                self._count_restart(reason, device_lost=device_lost)
                await self._stop()
                await asyncio.sleep(self.patience.pause_s(self._restarts))
            try:
                await self._start()
            except ServerError as error:
                if error.kind != "died":
                    raise
                reason = str(error)
            else:
                return

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
            slots = self._expected.slots
            await self._connect(
                address, in_flight(slots), SPARE, lambda it: _check_settings(it, self._expected, process.alias)
            )
        except ServerError:
            await self._stop()
            raise
        except _UNREACHED as error:
            await self._stop()
            raise ServerError(
                f"the server did not survive its first questions: {error}{error_lines(self._log)}"
            ) from error

    async def _connect(
        self, address: Address, width: int, spare: int, check: Callable[[Endpoint], None] = lambda _: None
    ) -> None:
        """Make an endpoint that is proven to be what was asked for; raises ServerError, and what a request raises."""
        endpoint = Endpoint(
            address, in_flight=width, spare=spare, cache_prompt=self._cache_prompt, grace_s=self.patience.grace_s,
            pace=self._pace,
        )  # fmt: skip
        try:
            await endpoint.read_settings()
            check(endpoint)
            await endpoint.verify_forcing()
            await self._check_canary(endpoint)
        except BaseException:
            await endpoint.http.aclose()
            raise
        self.endpoint = endpoint
        self.instance = uuid4().hex
        self.instances.append(self.instance)
        self._note("start", f"instance {self.instance}")

    async def _check_canary(self, endpoint: Endpoint) -> None:
        canary = await endpoint.canary()
        if self.canary is None:
            self.canary = canary
        if abs(canary - self.canary) >= self.drift_nats:
            raise ServerError(
                f"the log-probability of a fixed text was {self.canary:.3f} at the start and is {canary:.3f} now: "
                "the server does not serve what it did.",
                kind="wrong_model",
            )

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

    Its key is `EVALSUITE_API_KEY` in the environment. When it goes away it is waited for, and proven to be the same before
    it is asked again.
    """

    drift_nats = 0.02

    def __init__(self, url: str, *, patience: Patience, note: Callable[[str, str], None]) -> None:
        super().__init__(
            (), lambda _: [], Expected(Path(url), 0, 0, 1, 0, None), log=Path(os.devnull), cache_prompt=False,
            patience=patience, note=note, unchanged=lambda: True,
        )  # fmt: skip
        self._url = url

    async def _start(self) -> None:
        """Connect; wait while the server loads, and once it has answered also while nothing is there."""
        deadline, tries = time.monotonic() + self.patience.away_s, 0
        while True:
            tries += 1
            try:
                return await self._attach()
            except ServerError as error:
                raise ServerError(f"{self._url}: {error}", kind=error.kind) from error
            except _UNREACHED as error:
                loads = isinstance(error, RefusedError) and error.verdict.action is Action.WAIT
                lost = bool(self.instances) and not isinstance(error, RefusedError)
                if not (loads or lost) or time.monotonic() > deadline:
                    raise ServerError(f"{self._url}: {error}", kind="not_ready") from error
            await asyncio.sleep(self.patience.pause_s(tries))

    async def _attach(self) -> None:
        address = Address(self._url.rstrip("/"), None, os.environ.get("EVALSUITE_API_KEY") or "none")
        async with Endpoint(address, in_flight=1, spare=0, cache_prompt=False, grace_s=self.patience.grace_s) as door:
            await door.read_settings()
        # A server that nobody told of us has slots + 4 threads, and each of our connections takes one.
        await self._connect(address, door.slots + 2, spare=2)

    async def _is_alive(self, endpoint: Endpoint) -> bool:
        """Say whether it answers; raises ServerError when another one answers in its place."""
        try:
            await self._check_canary(endpoint)
        except _UNREACHED:
            return False
        return True


@asynccontextmanager
async def watched(serving: Serving) -> AsyncIterator[Serving]:
    """Watch a server for the length of a block, and stop it afterwards whatever happens."""
    watch = asyncio.create_task(serving.watch())
    try:
        yield serving
    finally:
        watch.cancel()
        try:
            with suppress(asyncio.CancelledError):
                await watch
        finally:
            await serving.close()


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
