"""Servers: find or build llama.cpp, turn a profile into a launch line, run the process, ask it."""
