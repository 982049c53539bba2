"""What a reader sees: the page, the figures, the terminal table. Nothing here computes a statistic."""
