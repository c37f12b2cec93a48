"""What image and video have in common: a task that is made once or taken up again, and the place of its result."""

from __future__ import annotations

import os

from .. import config
from ..errors import CallError, UsageError
from . import options

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable
    from typing import Any, TypeVar

    from ..calls.client import Client
    from ..cli.context import Context
    from ..cli.output import Output
    from ..gateways.openai import OpenAI
    from ..values import Pending

    P = TypeVar("P", bound=Pending)


def add_arguments(parser: argparse.ArgumentParser, default: str) -> argparse._ArgumentGroup:
    """The options of image and video for where the result goes, and for its task."""
    place = parser.add_argument_group("the file")
    place.add_argument("-o", "--out", metavar="PATH", help=default)
    place.add_argument("--force", action="store_true", help="overwrite an existing file")
    place.add_argument(
        "--open", action="store_true", help="show the result with the desktop's program (xdg-open, open)"
    )
    place.add_argument(
        "--once", action="store_true", help="do nothing if the file of -o exists; go on with a task that was to make it"
    )
    task = parser.add_argument_group("the task")
    task.add_argument("--detach", action="store_true", help="submit, print the task's id, do not wait for it")
    task.add_argument(
        "--resume",
        metavar="ID",
        nargs="?",
        const="",
        help="wait for a task that was submitted before (default: the latest unfinished one)",
    )
    return task


def check(args: argparse.Namespace, context: Context) -> None:
    """Raise `UsageError` if --once or --open does not go with the other options, or --once has no ledger."""
    without_result = {
        "--detach": args.detach,
        "--list": getattr(args, "list", False),
        "--cancel": getattr(args, "cancel", None) is not None,
    }
    if args.open:
        _refuse_together("--open", {"-o -": args.out == "-", **without_result})
    if not args.once:
        return
    several = (getattr(args, "count", None) or 1) > 1
    others = {"-n above 1": several, "--force": args.force, "--resume": args.resume is not None}
    _refuse_together("--once", others | without_result)
    if not args.out or args.out == "-" or args.out.endswith(("/", os.sep)) or os.path.isdir(args.out):
        raise UsageError("--once makes one file exist: it needs -o FILE")
    if config.ledger_path(context.environ) is None:
        raise UsageError("--once needs the ledger, which tells what was submitted before", code="no_ledger")


def _refuse_together(option: str, others: dict[str, bool]) -> None:
    for name, given in others.items():
        if given:
            raise UsageError(f"{option} does not go with {name}")


def no_words(args: argparse.Namespace, what: str) -> None:
    """Raise `UsageError` if words go with options that take none. zsh hands on the comment of our resume line."""
    if args.words[:1] not in ([], ["#"]):
        raise UsageError(f"{what} takes no prompt")


def result_of(
    args: argparse.Namespace,
    context: Context,
    output: Output,
    kind: type[P],
    make: Callable[[argparse.Namespace, Context, Output], P | None],
    collect: Callable[[argparse.Namespace, Context, Output, P], P],
) -> P | None:
    """What is made, what `collect` brings of the task that --resume means, or with --once what is there; None under
    --dry-run."""
    if args.once and not args.dry_run and os.path.lexists(args.out):
        return _there(args, output, kind)
    if args.resume is None:
        return make(args, context, output)
    no_words(args, "--resume")
    pending = _taken_up(args, context, output, kind)
    task_id = pending.task_id
    request = context.dialect(args, output).poll(kind.command, task_id) if task_id else None
    if args.dry_run:
        output.request(request)
        return None
    if pending.files:
        output.note("task", "saved by an earlier run: nothing is left to fetch")
        return pending
    return collect(args, context, output, pending)


def _there(args: argparse.Namespace, output: Output, kind: type[P]) -> P:
    """What --once returns if the file exists: nothing is sent, and it counts whatever it holds."""
    found = kind(None, target=args.out, submitted=0.0)
    found.files = [args.out]
    output.note("once", "the file exists: nothing is done")
    return found


def _taken_up(args: argparse.Namespace, context: Context, output: Output, kind: type[P]) -> P:
    """The task that --resume means: the one with that id or, without one, the latest on record that has not ended.

    Its `files` are there if an earlier run has saved it and it is wanted nowhere else. The gateway of its row is the
    one that `args` names from here on. Raises `CallError` with status 1 if no task is left.
    """
    ledger = context.ledger(output)
    chosen = context.gateway(args).name if args.gateway else None
    row = ledger.find(kind.command, args.resume, chosen)
    if row:
        args.gateway = output.gateway = row["gateway"]
    task_id = args.resume or row.get("task_id")
    if task_id is None and not row:
        hint = None if ledger.works else "there is no ledger to ask: name the task's id"
        raise CallError(f"no unfinished {kind.command} task is on record", code="nothing_to_resume", hint=hint)
    if task_id is not None:
        check_task_id(task_id)
    pending = _pending_of(row, context, kind)
    pending.task_id = task_id
    if pending.status == "completed" and pending.target and not args.out and os.path.isfile(pending.target):
        pending.files, pending.tried, pending.resumable = [pending.target], False, False
    return pending


def _pending_of(row: dict[str, Any], context: Context, kind: type[P]) -> P:
    """The task that a row of the ledger tells of."""
    submitted = row.get("started") or context.clock.started
    pending = kind(row.get("model"), target=row.get("output"), submitted=submitted)
    pending.task_id, pending.status, pending.row = row.get("task_id"), row.get("status"), row.get("id")
    pending.tried = pending.resumable = True
    return pending


def check_task_id(task_id: str) -> None:
    """Raise `UsageError` if a text cannot be a task's id."""
    from ..gateways.task import is_task_id

    if not is_task_id(task_id):
        raise UsageError(f"{task_id!r} is not a task's id")


def begun(
    args: argparse.Namespace,
    context: Context,
    output: Output,
    kind: type[P],
    place: Callable[[argparse.Namespace, Output], str | None],
) -> tuple[str, str, str | None, Client | None, OpenAI]:
    """What a new task begins with: model, prompt, the place of its result, client and dialect; place and client are
    None under --dry-run. What is wrong with them is found before anybody is asked."""
    client = None if args.dry_run else context.client(args, output)
    model = args.model or options.default_model(args, context, kind.command)
    prompt = context.prompt(args.words, output, only_dash=True)
    if client is None:
        return model, prompt, None, None, context.dialect(args, output)
    target = place(args, output)
    client.settle(kind(model, target=target, submitted=context.clock.started))
    return model, prompt, target, client, client.dialect


def made(
    args: argparse.Namespace,
    context: Context,
    output: Output,
    client: Client,
    kind: type[P],
    make: Callable[[], P],
    collect: Callable[[argparse.Namespace, Context, Output, P], P],
) -> P:
    """What `make` makes. With --once the file of -o is made to exist: it is there by now, or an unfinished task is to
    make it, or it is made. An error about the model names those that are most like it."""

    def resume(row: dict[str, Any]) -> P:
        args.gateway = row["gateway"]
        pending = _pending_of(row, context, kind)
        pending.exact = True
        return collect(args, context, output, pending)

    try:
        if not args.once:
            return make()
        from ..calls.once import once

        return once(client, kind.command, args.out, resume, make) or _there(args, output, kind)
    except CallError as error:
        result = error.partial
        if not result or not result.tried or result.status != "refused":
            raise
        raise options.hinted(error, client, result.model or "") from None


def open_all(context: Context, output: Output, files: list[str], url: str | None = None) -> None:
    """Show files, or else an address, with the desktop's program; if that does not work, a warning."""
    targets = [os.path.abspath(path) for path in files]  # a name may begin with a hyphen
    for target in targets or filter(None, [url]):
        if trouble := context.open(target):
            output.warning(f"--open: {trouble}")
