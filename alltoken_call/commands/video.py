"""video: a clip, its URL or the file itself; and the tasks that make clips: resumed, listed, cancelled."""

from __future__ import annotations

import contextlib
import datetime as dt
import os

from .. import config
from ..store import files, ledger
from ..cli import options, prompt
from ..calls import resume, tasks
from ..net.download import download
from ..errors import ApiError, CallError, ExitStatus, NetworkError, OutputError, UsageError
from ..net.response import Response
from ..text import one_line
from ..net.transport import READING, Transport, allowed_url
from ..calls.uploads import LocalFile, upload
from ..wire import segment, text_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from typing import Any

    from ..cli.context import Context
    from ..cli.output import Output

FIELDS = (*tasks.FIELDS, "video_url", "expires_at", "resolution", "ratio", "fps", "duration", "tasks")
HELP = "make a video clip"
EXAMPLE = 'alltoken-call video "waves at dusk" --duration 5 --ratio 16:9 -o waves.mp4'
MAX_WAIT = 1800.0
PATH = "/v1/videos/generations"
LIST = f"{PATH}?limit=50"
_SHOWN = ("resolution", "ratio", "fps", "duration")
_ENDINGS = {".mp4": "video", ".mov": "video", ".webm": "video", ".mp3": "audio", ".wav": "audio", ".m4a": "audio"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of video."""
    parser.add_argument("words", nargs="*", metavar="PROMPT", help="what to show; - takes stdin's text")
    clip = parser.add_argument_group("the clip")
    clip.add_argument("-m", "--model", metavar="ID", type=options.name, help="the model")
    clip.add_argument("--duration", metavar="SECONDS", type=options.integer, default=5, help="(5)")
    clip.add_argument("--ratio", metavar="W:H", default="16:9", help="(16:9)")
    clip.add_argument("--resolution", metavar="480p", default="480p", help="480p, 720p or 1080p (480p)")
    clip.add_argument("--audio", action="store_true", default=None, help="with sound")
    clip.add_argument("--no-audio", dest="audio", action="store_false", help="without")
    clip.add_argument("--seed", metavar="N", type=options.integer, help="the same again")
    clip.add_argument("--first-frame", metavar="FILE|URL", help="the image that it begins with")
    clip.add_argument("--last-frame", metavar="FILE|URL", help="the image that it ends with")
    clip.add_argument(
        "--reference", metavar="FILE|URL", action="append", default=[], help="image, video or sound to follow"
    )
    options.add_param(clip)
    task = options.add_task(parser)
    task.add_argument("--cancel", metavar="ID", help="cancel a task")
    task.add_argument("--list", action="store_true", help="list the tasks")


def run(args: argparse.Namespace, context: Context, output: Output) -> None:
    """Make the clip, or see to the task of one."""
    others = sum((args.resume is not None, args.cancel is not None, args.list))
    if others > 1:
        raise UsageError("--resume, --cancel and --list exclude each other")
    if others and args.words[:1] not in ([], ["#"]):  # zsh hands on the comment of the resume line that we print
        raise UsageError("--resume, --cancel and --list take no prompt")
    if not others:
        _make(args, context, output)
    elif args.resume is not None:
        _resume(args, context, output)
    else:
        _see_to(args, context, output)


def _make(args: argparse.Namespace, context: Context, output: Output) -> None:
    model = args.model or config.default_model(context.environ, "video")
    output.report["model"] = model
    roles = [("first_frame", args.first_frame), ("last_frame", args.last_frame)]
    roles = [(role, source) for role, source in roles if source] + [("reference", source) for source in args.reference]
    inputs = [_input(role, source) for role, source in roles]
    text = prompt.assemble(args.words, context, output, only_dash=True)
    body: dict[str, Any] = {"model": model, "prompt": text, "duration": args.duration}
    body |= {"ratio": args.ratio, "resolution": args.resolution}
    body |= options.given(generate_audio=args.audio, seed=args.seed) | dict(args.param)
    for item, _ in inputs:
        if not isinstance(body.setdefault("content", []), list):
            raise UsageError("-p content is no list: the frames and references have no place in it")
        body["content"].append(item)
    uploads = [(item, file) for item, file in inputs if file is not None]
    if args.dry_run:
        for item, file in uploads:
            item["upload_id"] = f"(the upload of {file.path})"
        output.show_request("POST", config.base_url(context.environ) + PATH, body)
        return
    transport = Transport(context, output, args.timeout)
    target = _target(args.out, force=args.force)
    for item, file in uploads:
        item["upload_id"] = upload(transport, file, f"video_input_{file.kind}")
    run_ = tasks.Tasks(context, output, transport, PATH, pause=3.0, one_shot=False)
    about = f" (duration={args.duration} ratio={args.ratio} resolution={args.resolution})"
    run_.submit(PATH, body, key=None, about=about, target=target)
    if args.detach:
        run_.detach(target)
    else:
        _collect(run_, target, context, output, transport, force=args.force)


def _input(role: str, source: str) -> tuple[dict[str, Any], LocalFile | None]:
    """A content part for a URL, or for a local file that is still to be uploaded."""
    file = None
    if source.lower().startswith(("https://", "http://")):
        kind = _ENDINGS.get(os.path.splitext(source.partition("?")[0])[1].lower(), "image")
    else:
        file = LocalFile(source, ("image", "video", "audio") if role == "reference" else ("image",))
        kind = file.kind
    item = {"type": kind, "role": f"reference_{kind}" if role == "reference" else role}
    return (item if file else item | {"url": source}), file


def _target(out: str | None, *, force: bool) -> str | None:
    """The path of the file, None where the URL alone is wanted. Raises `OutputError` where there can be none."""
    if out is None:
        return None
    if out == "-":
        raise UsageError("a video goes to a file: -o FILE")
    target = files.in_folder(out, f"alltoken-video-{os.urandom(4).hex()}.mp4")
    files.check_new([target], force=force)
    return target


def _resume(args: argparse.Namespace, context: Context, output: Output) -> None:
    row = resume.take_up(args, PATH, context, output)
    if row is None:
        return
    transport = Transport(context, output, args.timeout)
    target = _target(args.out, force=args.force) if args.out else row.get("output")
    run_ = tasks.Tasks(context, output, transport, PATH, pause=3.0, one_shot=False, submitted=row.get("started"))
    _collect(run_, target, context, output, transport, force=args.force)


def _see_to(args: argparse.Namespace, context: Context, output: Output) -> None:
    """List the tasks, or cancel one. Neither is a call of its own in the ledger."""
    output.keep_row = False
    if args.cancel is not None:
        if not tasks.is_id(args.cancel):
            raise UsageError(f"{args.cancel!r} is no task's id")
        output.report["task_id"] = args.cancel
    if args.dry_run:
        if args.list:
            output.show_request("GET", config.base_url(context.environ) + LIST)
        else:
            resume.show_request("POST", PATH, context, output, "/cancel")
        return
    transport = Transport(context, output, args.timeout)
    if args.list:
        _list(transport, output)
    else:
        _cancel(args.cancel, context, output, transport)


def _collect(
    run_: tasks.Tasks, target: str | None, context: Context, output: Output, transport: Transport, *, force: bool
) -> None:
    """Wait for the clip, show where it is and what it cost, and download it where a file is wanted."""
    found: dict[str, Any] = {}
    try:
        run_.wait(Response.json, found.update)
        report = output.report
        report["model"] = report["model"] or text_of(found.get("model"))
        report["expires_at"] = text_of(found.get("video_url_expires_at"))
        report |= {name: found.get(name) for name in _SHOWN}
        url = text_of(found.get("video_url"))
        if url is None:
            raise NetworkError("the task completed without a video_url", code="protocol", sent=True)
        output.usage(found.get("usage"))
        output.cost(None)
        report["video_url"] = url
        if not allowed_url(url, transport.base):
            run_.end("completed")
            raise NetworkError(f"the video's address is not https, it is not opened: {url}", code="address")
        facts = " ".join(f"{name}={one_line(str(found[name]), 40)}" for name in _SHOWN if found.get(name) is not None)
        output.remark(f"{facts}; the URL expires {_expiry(found)}".removeprefix("; "))
        if target is not None:
            _save(url, target, context, output, transport, force=force)
            report["files"] = [target]
        run_.end("completed", target and os.path.abspath(target))
        if found.get("is_expired") is True and target is None:
            output.warning("the gateway says that this URL has expired")
        output.line(target or url)
    except BaseException as error:
        if isinstance(error, OutputError) and output.report["video_url"]:
            error.hint = error.hint or f"the clip is at {output.report['video_url']}"
        if not run_.ended:
            output.parting = run_.resume_line(target)
        raise


def _expiry(found: dict[str, Any]) -> str:
    seconds = found.get("video_url_ttl")
    at = text_of(found.get("video_url_expires_at"))
    if at is None and type(seconds) is int:
        return f"in {seconds:,} s"
    with contextlib.suppress(ValueError, OverflowError, OSError):
        moment = dt.datetime.fromisoformat((at or "").replace("Z", "+00:00"))
        return f"at {moment.astimezone():%Y-%m-%d %H:%M %Z}"
    return f"at {one_line(at, 40)}" if at else "at a time that the gateway did not say"


def _save(url: str, target: str, context: Context, output: Output, transport: Transport, *, force: bool) -> None:
    """Download the clip and put it in place. Raises `OutputError`; the URL has been told by then."""
    try:
        file, part = files.part_of(target)
        try:
            with file:
                size = download(url, file, transport, context, output)
                files.sync(file)
            _check_video(part)
            if not files.same(part, target):  # of a run that was killed just here
                files.put(part, target, force=force)
        finally:
            files.discard(part)
    except OSError as error:
        raise OutputError(f"cannot write {target}: {error.strerror}", hint=f"the clip is at {url}") from None
    took = context.now() - context.started
    output.remark(f"saved {target} ({size:,} bytes) in {took:.1f} s")


def _check_video(path: str) -> None:
    """Raise `CallError` with status 9 where a file begins like a web page or a message instead of a clip."""
    with open(path, "rb") as file:
        if file.read(64).lstrip()[:1] in (b"", b"<", b"{"):
            raise CallError(
                "what the video's address holds is not a video", status=ExitStatus.CUT_SHORT, code="no_video"
            )


def _list(transport: Transport, output: Output) -> None:
    answer = transport.get(LIST)
    items = answer.get("items", answer.get("data", False))
    if not isinstance(items, list) and items is not None:  # "0 tasks" would say that a lost submit was not accepted
        raise NetworkError("the gateway's answer is no list of tasks", code="protocol", sent=True)
    found = [item for item in items or () if isinstance(item, dict) and text_of(item.get("id"))]
    output.report["tasks"] = found
    for item in found:
        names = ("id", "status", "model", "created_at")
        output.line("  ".join(one_line(str(item.get(name) or "-"), 60) for name in names))
    total = answer.get("total")
    output.remark(f"{len(found)} task(s)" + (f" of {total:,}" if type(total) is int and total > len(found) else ""))


def _cancel(task_id: str, context: Context, output: Output, transport: Transport) -> None:
    try:
        answer = transport.request("POST", f"{PATH}/{segment(task_id)}/cancel", {}, READING, Response.json)
    except ApiError as error:
        if error.http in (404, 409):
            error.hint = "video --list tells which tasks there are, and their status"
        raise
    status = text_of(answer.get("status")) or "unknown"
    output.report["status"] = status
    if ledger.look_up(context, output, "video", task_id):
        ledger.record(context, output, {})
    output.line(one_line(status, 60))
