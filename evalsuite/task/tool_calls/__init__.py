"""Tool calls: what an answer tried to call, whether it is right, and where the questions come from."""
