"""Runs programs that a model wrote: apart from this process, its files, its keys and the answers that are expected."""
