"""Published tables, other harnesses' logs and our own exports, read into the tables of analysis."""
