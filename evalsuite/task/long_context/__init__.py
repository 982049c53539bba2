"""Long context: how much of what stands in a long prompt a quant still finds, by family, length and depth.

    options ─► documents (a haystack with its questions) ─► samples (sized with the model's own tokenizer)
    answers ─► recall (the share of what was wanted)

`longbench` reads a published set instead.
"""
