"""What is shown of a call's value and of its end: the [usage] and [cost] lines, the JSON document, the error."""

from __future__ import annotations

import contextlib
import math
import re

from .. import config
from ..errors import UsageError
from ..text import one_line
from ..values import Answer, Pending

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..errors import CallError
    from ..values import Clip, Result
    from .context import Context
    from .output import Output

_COUNTS = {
    "prompt_tokens": "prompt",
    "completion_tokens": "completion",
    "input_tokens": "input",
    "output_tokens": "output",
    "total_tokens": "total",
}


def tell_money(result: Result, output: Output, *, later: bool = False) -> None:
    """The lines [usage] and [cost] of a call that may have cost something; `later`: the gateway's log has what is
    unknown now."""
    usage = result.usage
    if isinstance(result, Answer) and result.text:
        output.gap()
    if usage is not None:
        counts = " ".join(f"{name}={usage[key]}" for key, name in _COUNTS.items() if type(usage.get(key)) is int)
        output.dim(" ".join(filter(None, ("[usage]", counts, f"model={one_line(result.model or '?', 60)}"))))
    settled = usage is not None or isinstance(result, Answer) or getattr(result, "status", None) == "completed"
    if not result.tried or not (settled or result.cost.source == "none" or isinstance(result, Pending)):
        return
    if result.cost.usd is not None:
        output.dim(f"[cost] ${result.cost.usd} ({result.cost.source})")
    elif result.cost.source != "local":
        unknown = "unknown until: alltoken-call cost" if later else "unknown"
        output.dim(f"[cost] {result.cost.source or unknown}")


def tell_error(error: CallError, output: Output) -> None:
    """The lines of an end that is not a good one: what it is, the request id, and what to do next."""
    about = " ".join(str(part) for part in (error.http, error.type) if part)
    output.say(f"[error] {error.code}{f' ({about})' if about else ''}: {one_line(error.message)}")
    if error.request_id:
        output.say(f"request_id: {one_line(error.request_id, 200)}")
    if error.hint:
        output.say(error.hint)


def document(
    command: str | None,
    keys: tuple[str, ...],
    result: Result | None,
    error: CallError | None,
    context: Context,
    output: Output,
) -> dict[str, Any]:
    """The --json document: every key is there, null if it does not apply."""

    def clean(text: str | None) -> str | None:
        return text and output.without_key(text)

    fields: dict[str, Any] = {"ok": error is None, "command": command, "gateway": context.gateway_name(output.gateway)}
    request_id = (error and error.request_id) or (result and result.request_id)
    fields |= {
        "model": result and result.model,
        "usage": result and result.usage,
        "cost": {"usd": result.cost.usd, "source": result.cost.source} if result else {"usd": None, "source": None},
        "request_id": request_id,
        "error": error
        and {
            "code": clean(error.code),
            "type": clean(error.type),
            "message": one_line(output.without_key(error.message)),
            "status": error.http or None,
            "request_id": request_id,
            "hint": error.hint,
        },
    }
    fields |= dict.fromkeys(keys) | (result.fields() if result else {})
    if isinstance(result, Pending) and result.resumable:
        fields["resume"] = resume_command(result, context)
    return fields


def resume_command(pending: Pending, context: Context) -> str:
    """The command that takes the task up again, as it can be run here."""
    task_id = pending.task_id or ""
    words = ["--resume", task_id] if re.fullmatch(r"[!-~ ]+", task_id) else ["--resume"]  # the latest, that is
    if task_id.startswith("-"):
        words = [f"--resume={task_id}"]
    ledger = context.made and context.made.ledger
    if not (ledger and ledger.works):  # which would know both
        words += ["-o", pending.target] if pending.target is not None else []
        words += _gateway_option(context)
    return context.command_line(pending.command, *words)


def _gateway_option(context: Context) -> list[str]:
    """--gateway, if the environment alone would not choose the gateway that was called."""
    called = context.gateway_name(None)
    with contextlib.suppress(UsageError):
        if config.gateway(context.environ).name == called:
            return []
    return ["--gateway", called]


def resume_line(pending: Pending, context: Context) -> str:
    """The resume command, and how long it makes sense where tasks expire."""
    command = resume_command(pending, context)
    lifetime = context.made.dialect.lifetime if context.made is not None else None
    if lifetime is None or pending.task_id is None:
        return command
    gone = context.clock.now() - pending.submitted
    left = math.ceil((lifetime - max(0.0, gone)) / 60)
    return f"{command}  # " + (f"the task expires in {left} min" if left > 0 else "the task has expired")


def facts(clip: Clip) -> str:
    """What is told of a clip, and when its URL expires."""
    known = [(name, value) for name, value in clip.facts.items() if value is not None]
    about = " ".join(f"{name}={one_line(str(value), 40)}" for name, value in known)
    expires = "needs the key" if clip.keyed else f"expires {_expiry(clip)}"
    return f"{about}; the URL {expires}".removeprefix("; ")


def _expiry(clip: Clip) -> str:
    import datetime as dt

    if clip.expires_at is None and clip.ttl is not None:
        return f"in {clip.ttl:,} s"
    with contextlib.suppress(ValueError, OverflowError, OSError):
        moment = dt.datetime.fromisoformat((clip.expires_at or "").replace("Z", "+00:00"))
        return f"at {moment.astimezone():%Y-%m-%d %H:%M %Z}"
    return f"at {one_line(clip.expires_at, 40)}" if clip.expires_at else "at a time that the gateway did not say"
