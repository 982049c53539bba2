"""evalsuite tells what quantisation really did to a model."""

__version__ = "0.1.0"
