"""Files of a hub repository, downloaded or from the hub's cache."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from evalsuite.errors import MachineError


def fetch(
    repository: str, patterns: Sequence[str], *, kind: Literal["model", "dataset"], revision: str | None = None
) -> Path:
    """Return a folder with the files of a repository that match; files in the cache need no network.

    Raises MachineError that says whether the repository wants consent, does not exist, or cannot be reached.
    """
    from huggingface_hub import snapshot_download  # noqa: PLC0415 - slow to import, rarely needed
    from huggingface_hub.errors import (  # noqa: PLC0415
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    try:
        return Path(snapshot_download(repository, repo_type=kind, revision=revision, allow_patterns=list(patterns)))
    except GatedRepoError as error:
        raise MachineError(
            f"{repository} is gated: accept its terms on its page, then `hf auth login` on this machine."
        ) from error
    except RepositoryNotFoundError as error:
        raise MachineError(
            f"{repository}: the hub has no such {kind}, or it is private: `hf auth login` on this machine."
        ) from error
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        first = str(error).strip().splitlines()[0]
        raise MachineError(f"{repository} is neither in the hub's cache nor to be fetched ({first}).") from error
