"""Chat templates: what is wrong with one, on which engine, and what a change to it did."""
