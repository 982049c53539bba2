"""What a person sees while a run works: what is served, samples done, time left; on stderr."""

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


class Screen:
    """One progress bar; off a terminal, a line whenever another arm or stage begins."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description}"), BarColumn(bar_width=24), MofNCompleteColumn(), TimeElapsedColumn(),
            TextColumn("left"), TimeRemainingColumn(), console=self._console, transient=True, refresh_per_second=4,
            disable=not self._console.is_terminal,
        )  # fmt: skip
        self._bar: TaskID = self._progress.add_task("", total=None)
        self._arm = ""

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._progress.stop()

    def total(self, samples: int) -> None:
        """Show how many samples remain."""
        self._progress.update(self._bar, total=samples, completed=0)

    def phase(self, arm: str, doing: str) -> None:
        """Show what is being done; off a terminal, say it once an arm."""
        if not self._console.is_terminal and arm != self._arm:
            self._console.print(f"{arm}: {doing}" if doing else arm, markup=False, highlight=False)
        self._arm = arm
        self._progress.update(self._bar, description=f"{arm}: {doing}"[:60])

    def advance(self, samples: int = 1) -> None:
        """Move the bar."""
        self._progress.advance(self._bar, samples)

    def share(self, doing: str, share: float) -> None:
        """Show a stage that knows only its share done, in [0, 1]."""
        self.phase(doing, "")
        self._progress.update(self._bar, total=100, completed=int(100 * share))

    def say(self, text: str) -> None:
        """Print a line that stays."""
        self._console.print(text, markup=False, highlight=False)
