"""What makes samples of a published dataset's rows, by the name that a task file gives."""

from collections.abc import Callable, Mapping
from typing import Any

from evalsuite.records import Sample
from evalsuite.task.code.functions import humaneval, mbpp
from evalsuite.task.code.livecodebench import livecodebench
from evalsuite.task.datasets import Dataset
from evalsuite.task.easy_sets import arc, blimp, hellaswag, lambada, piqa
from evalsuite.task.long_context.longbench import longbench
from evalsuite.task.mathematics import gsm8k, math_500
from evalsuite.task.mmlu_pro import mmlu_pro
from evalsuite.task.tool_calls.bfcl import bfcl
from evalsuite.task.tool_calls.multi_turn import bfcl_multi_turn

Builder = Callable[[Dataset, Mapping[str, Any]], list[Sample]]
"""Makes samples of a dataset's rows and the task file's `builder` mapping."""

BUILDERS: Mapping[str, Builder] = {
    "arc": arc, "bfcl": bfcl, "bfcl_multi_turn": bfcl_multi_turn, "blimp": blimp, "gsm8k": gsm8k,
    "hellaswag": hellaswag, "humaneval": humaneval, "lambada": lambada, "livecodebench": livecodebench,
    "longbench": longbench, "math_500": math_500, "mbpp": mbpp, "mmlu_pro": mmlu_pro, "piqa": piqa,
}  # fmt: skip
