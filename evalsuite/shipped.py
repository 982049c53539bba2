"""Where the built-in tasks, server profiles and report templates lie: in the wheel, else in the checkout."""

from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path


def shipped(kind: str) -> Traversable:
    """Return the folder of built-in `tasks`, `servers` or `reports`."""
    packaged = files("evalsuite") / "_shipped" / kind
    return packaged if packaged.is_dir() else Path(__file__).parents[1] / kind
