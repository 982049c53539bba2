"""A task's own conversations: the prompts of its samples, each with the answer that is forced after it."""

from collections.abc import Callable

from evalsuite.errors import MachineError
from evalsuite.identity import ask_key
from evalsuite.plan import Plan
from evalsuite.proxy.forced import Conversation
from evalsuite.records import Choose, Generate, Loglikelihood, Output, Prompt, Request, Sample
from evalsuite.store import Store
from evalsuite.task.solvers import replay
from evalsuite.task.tasks import Task

Stored = Callable[[int, Request], Output | None]
"""Returns the stored output of a request at a position within its dialogue."""


def conversations(plan: Plan, task: Task, store: Store) -> list[Conversation]:
    """Return the conversations of a task's samples: with what the reference wrote, or with the right choice.

    Where several requests make a sample the last is taken, which holds the earlier ones. A sample whose answer is empty is
    left out; tool calls are a part of an answer. MachineError when the reference has not answered all of them.
    """
    artifact_id, launch = store.get_meta("identities")[plan.reference.name]
    answers = store.answers(artifact_id)

    def stored_of(sample: Sample) -> Stored:
        def stored(step: int, request: Request) -> Output | None:
            key = ask_key(
                artifact_id=artifact_id, build_id=plan.build_id, launch=launch, task_id=task.task_id,
                sample_id=sample.sample_id, repeat=0, step=step, replicate=plan.reference.replicate, request=request,
            )  # fmt: skip
            return answers[key][1] if key in answers else None

        return stored

    found = [_conversation(plan, task, sample, stored_of(sample)) for sample in task.samples]
    if unanswered := found.count(None):
        raise MachineError(
            f"task:{task.name}: the reference has not answered {unanswered} of {len(found)} samples, whose answers are "
            "forced upon the other quants. Ask the task first, with `evalsuite run`."
        )
    return [each for each in found if each is not None and (each.answer or each.calls)]


def _conversation(plan: Plan, task: Task, sample: Sample, stored: Stored) -> Conversation | None:
    """Return a sample's conversation, its answer empty where there is none; None when it has not been answered."""
    sampling = plan.sampling(sample.sample_id, 0)
    requests = next(task.solve(sample, sampling), ())
    offered = [(each.prompt, each.continuation) for each in requests if isinstance(each, Loglikelihood)]
    offered += [(each.prompt, option) for each in requests if isinstance(each, Choose) for option in each.options]
    if offered:
        right = [sample.target] if isinstance(sample.target, int) else sample.target
        return Conversation(*offered[right[0]]) if right else Conversation("", "")
    said: list[tuple[Request, Output | None]] = []

    def heard(step: int, request: Request) -> Output | None:
        said.append((request, stored(step, request)))
        return said[-1][1]

    if replay(task.solve(sample, sampling), heard) is None:
        return None
    match said[-1:]:
        case [(Generate(prompt, tools=tools), Output(text=text, tool_calls=calls))]:
            return Conversation(prompt, text.removeprefix(_begun(prompt)), tools, calls)
    return Conversation("", "")


def _begun(prompt: Prompt) -> str:
    """Return the answer that a conversation begins for the model: the template renders it, and the server repeats it."""
    return "" if isinstance(prompt, str) or prompt[-1]["role"] != "assistant" else str(prompt[-1]["content"])
