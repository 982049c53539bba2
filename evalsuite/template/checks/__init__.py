"""The conformance matrix: every check is a pure function of what an engine made of a template."""

from evalsuite.template.checks import metadata, prefixes, rendering, round_trips, safety, schemas
from evalsuite.template.records import Check

CHECKS: tuple[Check, ...] = (
    *metadata.CHECKS, *rendering.CHECKS, *schemas.CHECKS, *round_trips.CHECKS, *prefixes.CHECKS, *safety.CHECKS,
)  # fmt: skip
"""All of them, in the order in which they are told."""
