"""Every error that is not a bug, ordered by whose it is to mend.

    EvalsuiteError
    ├── SpecError         the user's input says something impossible                  exit 2
    └── MachineError      this machine lacks something or did not do what was asked   exit 3
        ├── ServerError   a server did not start, or did not do what was asked
        └── StoreError    the results directory is locked, full or damaged

A message says what is wrong, where, and what to do next. Anything else that is raised is a bug and keeps its traceback.
"""

from collections.abc import Iterable
from difflib import get_close_matches


class EvalsuiteError(Exception):
    """Base of every error that is not a bug."""

    exit_code = 3


class SpecError(EvalsuiteError):
    """A sweep, a task, a profile, a table or a model file says something impossible: the user's to mend."""

    exit_code = 2


class MachineError(EvalsuiteError):
    """The machine lacks something or did not do what was asked."""


class ServerError(MachineError):
    """A server did not start or did not do what was asked.

    `kind` is one of `load_failed, oom_load, not_ready, wrong_model, wrong_settings, device, died, unauthorized`; of a
    single request `refused` or `gone`.
    """

    def __init__(self, message: str, *, kind: str = "died") -> None:
        super().__init__(message)
        self.kind = kind


class StoreError(MachineError):
    """The results directory is locked by another process, full, or damaged."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return a sentence that names the nearest known word, or all of them."""
    known = sorted(known)
    close = get_close_matches(word, known, n=1)
    return f" Did you mean {close[0]!r}?" if close else f" Known: {', '.join(known)}."
