"""The embedded default server: llama.cpp's own HTTP server out of the `xllamacpp` wheel, as a child process.

`python -m evalsuite.serve.embedded` takes the flags that `evalsuite.serve.launch` writes, and answers the routes that
llama-server answers. A flag that it cannot honour ends it with exit 1 and a line that names the flag.
"""

import argparse
import os
import signal
import sys
import threading
from collections.abc import Sequence
from types import FrameType
from typing import Any

_FLASH_ATTENTION = {"on": "ENABLED", "off": "DISABLED", "auto": "AUTO"}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="evalsuite-embedded-server", allow_abbrev=False)
    for name in ("model", "host", "alias"):
        parser.add_argument(f"--{name}", required=True)
    for name, default in {
        "port": 0, "parallel": 1, "ctx-size": 0, "threads": 1, "threads-batch": 1, "threads-http": -1, "cache-ram": 0,
        "ctx-checkpoints": 0, "timeout": 3600, "seed": -1, "n-gpu-layers": 0, "batch-size": 2048, "ubatch-size": 512,
        "reasoning-budget": -1, "log-verbosity": 3,
    }.items():  # fmt: skip
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--flash-attn", choices=_FLASH_ATTENTION, default="auto")
    parser.add_argument("--fit", choices=["on", "off"], default="off")
    for name in ("cache-type-k", "cache-type-v"):
        parser.add_argument(f"--{name}", default="f16")
    parser.add_argument("--reasoning-format", choices=["none", "deepseek", "auto"], default="none")
    parser.add_argument("--chat-template-file")
    for name in ("metrics", "jinja", "offline", "no-webui", "log-timestamps", "log-prefix"):
        parser.add_argument(f"--{name}", action="store_true")
    for name in ("kv-unified", "context-shift", "cache-prompt"):
        parser.add_argument(f"--{name}", action=argparse.BooleanOptionalAction, default=False)
    return parser


def _params(args: argparse.Namespace) -> Any:
    import xllamacpp as x  # noqa: PLC0415 - a bad flag should be told before 100 MB are mapped

    params = x.CommonParams()
    params.model.path = args.model
    params.model_alias = {args.alias}
    params.hostnames, params.port = [args.host], args.port
    params.api_keys = [key] if (key := os.environ.get("LLAMA_API_KEY")) else []
    params.n_parallel, params.n_ctx, params.kv_unified = args.parallel, args.ctx_size, args.kv_unified
    params.n_batch, params.n_ubatch = args.batch_size, args.ubatch_size
    params.cpuparams.n_threads, params.cpuparams_batch.n_threads = args.threads, args.threads_batch
    params.n_gpu_layers = args.n_gpu_layers
    flash_attention = f"LLAMA_FLASH_ATTN_TYPE_{_FLASH_ATTENTION[args.flash_attn]}"
    params.flash_attn_type = getattr(x.llama_flash_attn_type, flash_attention)
    params.cache_type_k = getattr(x.ggml_type, f"GGML_TYPE_{args.cache_type_k.upper()}")
    params.cache_type_v = getattr(x.ggml_type, f"GGML_TYPE_{args.cache_type_v.upper()}")
    params.fit_params, params.ctx_shift = args.fit == "on", args.context_shift
    params.cache_prompt, params.cache_ram_mib = args.cache_prompt, args.cache_ram
    params.n_ctx_checkpoints = args.ctx_checkpoints
    params.n_threads_http, params.timeout_read, params.timeout_write = args.threads_http, args.timeout, args.timeout
    params.endpoint_metrics, params.ui, params.offline = args.metrics, False, True
    params.use_jinja, params.verbosity = args.jinja, args.log_verbosity
    params.sampling.seed = args.seed & 0xFFFFFFFF  # -1 is llama.cpp's word for a random seed
    params.sampling.reasoning_budget_tokens = args.reasoning_budget
    reasoning = f"COMMON_REASONING_FORMAT_{args.reasoning_format.upper()}"
    params.reasoning_format = getattr(x.common_reasoning_format, reasoning)
    if args.chat_template_file:
        with open(args.chat_template_file, encoding="utf-8") as file:  # noqa: PTH123 - pathlib for one line is not worth it
            params.chat_template = file.read()
    return params


def main(words: Sequence[str] | None = None) -> int:
    """Serve until a signal comes; exit 1 when the flags are wrong or the model does not load."""
    try:
        args = _parser().parse_args(words)
    except SystemExit:
        return 1
    done = threading.Event()

    def end(_signal: int, _frame: FrameType | None) -> None:
        done.set()

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    try:
        import xllamacpp as x  # noqa: PLC0415

        server = x.Server(_params(args))  # it prints `listening on …` itself once the model is loaded
    except (AttributeError, RuntimeError, OSError, ValueError) as error:
        sys.stderr.write(f"E embedded server: {error}\n")
        return 1
    done.wait()
    del server
    # Requests in flight would keep the C++ threads alive; nothing here needs an orderly end.
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
