"""Which task of an earlier run is meant, and whether anything of it is left to do (image and video)."""

from __future__ import annotations

import os

from .. import config
from ..store import ledger
from ..errors import CallError, UsageError
from .tasks import is_id
from ..wire import segment

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from typing import Any

    from ..cli.context import Context
    from ..cli.output import Output


def take_up(args: argparse.Namespace, path: str, context: Context, output: Output) -> dict[str, Any] | None:
    """Name the task that --resume means: the one with that id, or, without one, the latest on record that has not
    ended. Its row, {} where there is none.

    None where nothing is left to do: the request was shown (--dry-run), or an earlier run has saved the result and it
    is wanted nowhere else. Raises `CallError` with status 1 where no task is left.
    """
    command = output.report["command"]
    row = ledger.look_up(context, output, command, args.resume)
    task_id = args.resume or row.get("task_id")
    if task_id is None:
        hint = None if output.ledger_works else "there is no ledger to ask: name the task's id"
        raise CallError(f"no {command} task is left to resume", code="nothing_to_resume", hint=hint)
    if not is_id(task_id):
        raise UsageError(f"{task_id!r} is no task's id")
    output.report |= {"task_id": task_id, "model": row.get("model"), "status": row.get("status")}
    saved = row.get("output")
    if args.dry_run:
        show_request("GET", path, context, output)
    elif row.get("status") == "completed" and saved and not args.out and os.path.isfile(saved):
        output.report["files"] = [saved]
        output.note("task", "saved by an earlier run: nothing is left to fetch")
        output.line(saved)
    else:
        return row
    return None


def show_request(method: str, path: str, context: Context, output: Output, more: str = "") -> None:
    """What --dry-run shows of a request about the task."""
    url = f"{config.base_url(context.environ)}{path}/{segment(output.report['task_id'])}{more}"
    output.show_request(method, url)
