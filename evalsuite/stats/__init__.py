"""Paired tests, intervals, rank correlation and multiplicity: arrays in, estimates out, no files and no tables."""
