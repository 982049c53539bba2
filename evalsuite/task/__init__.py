"""Tasks: datasets, prompts, solvers, answer extraction, scorers."""
