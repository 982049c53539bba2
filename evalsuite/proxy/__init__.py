"""Cheap measures of a quant without a task: perplexity and KL divergence."""
