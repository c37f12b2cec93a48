"""video: a clip, its URL or the file itself; and the tasks that make clips: resumed, listed, cancelled."""

from __future__ import annotations

import os

from ..errors import CallError, UsageError
from ..text import one_line
from ..values import Clip, Report
from . import options

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from typing import Any

    from ..calls.uploads import LocalFile
    from ..cli.context import Context
    from ..cli.output import Output
    from ..values import Result

FIELDS = (
    "task_id",
    "status",
    "files",
    "resume",
    "video_url",
    "expires_at",
    "resolution",
    "ratio",
    "fps",
    "duration",
    "tasks",
)
HELP = "make a video clip"
EXAMPLE = 'alltoken-call video "waves at dusk" --duration 5 --ratio 16:9 -o waves.mp4'
MAX_WAIT = 1800.0
_ENDINGS = {".mp4": "video", ".mov": "video", ".webm": "video", ".mp3": "audio", ".wav": "audio", ".m4a": "audio"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of video."""
    parser.add_argument("words", nargs="*", metavar="PROMPT", help="what to show; - stands for the text on stdin")
    clip = parser.add_argument_group("the clip")
    clip.add_argument(
        "-m",
        "--model",
        metavar="ID",
        type=options.name,
        help="the model (default: $ALLTOKEN_VIDEO_MODEL, else seedance-1.5-pro)",
    )
    clip.add_argument(
        "--duration",
        metavar="SECONDS",
        type=options.integer,
        default=5,
        help="length of the clip; -1 lets some models choose (default: 5)",
    )
    clip.add_argument(
        "--ratio", metavar="W:H", default="16:9", help="16:9, 9:16, 4:3, 3:4, 21:9, 1:1 or adaptive (default: 16:9)"
    )
    clip.add_argument("--resolution", metavar="480p", default="480p", help="480p, 720p or 1080p (default: 480p)")
    clip.add_argument("--audio", action="store_true", default=None, help="with sound (default: the model's)")
    clip.add_argument("--no-audio", dest="audio", action="store_false", help="without sound")
    clip.add_argument("--seed", metavar="N", type=options.integer, help="fixed seed, for repeatable results")
    clip.add_argument("--first-frame", metavar="FILE|URL", help="the image that it begins with")
    clip.add_argument("--last-frame", metavar="FILE|URL", help="the image that it ends with")
    clip.add_argument(
        "--reference",
        metavar="FILE|URL",
        action="append",
        default=[],
        help="image, video or sound to follow; repeatable",
    )
    options.add_param(clip)
    task = options.add_task(parser, "a file or a directory for the clip (default: print its URL)")
    task.add_argument("--cancel", metavar="ID", help="cancel a task, print its new status")
    task.add_argument("--list", action="store_true", help="list the tasks: id, status, model, time")


def run(args: argparse.Namespace, context: Context, output: Output) -> Result | None:
    """Make the clip, or see to the task of one."""
    others = sum((args.resume is not None, args.cancel is not None, args.list))
    if others > 1:
        raise UsageError("--resume, --cancel and --list exclude each other")
    if args.cancel is not None or args.list:
        options.no_words(args, "--cancel or --list")
        return _see_to(args, context, output)
    if args.resume is not None:
        options.no_words(args, "--resume")
    clip = _make(args, context, output) if args.resume is None else _resume(args, context, output)
    if clip is not None:
        with options.showing(clip, hint=clip.video_url and f"the clip is at {clip.video_url}"):
            if args.detach and args.resume is None:
                output.line(clip.task_id or "")
            elif clip.files:
                output.path(clip.files[0])
            elif clip.video_url:
                output.line(clip.video_url)
    return clip


def _make(args: argparse.Namespace, context: Context, output: Output) -> Clip | None:
    from ..calls.video import make_video

    roles = [("first_frame", args.first_frame), ("last_frame", args.last_frame)]
    roles = [(role, source) for role, source in roles if source] + [("reference", source) for source in args.reference]
    inputs = [_input(role, source) for role, source in roles]
    model = args.model or options.default_model(context, "video")
    text = context.prompt(args.words, output, only_dash=True)
    body: dict[str, Any] = {"model": model, "prompt": text, "duration": args.duration}
    body |= {"ratio": args.ratio, "resolution": args.resolution}
    body |= options.given(generate_audio=args.audio, seed=args.seed) | dict(args.param)
    for item, _ in inputs:
        if not isinstance(body.setdefault("content", []), list):
            raise UsageError("-p content is not a list: the frames and references have no place in it")
        body["content"].append(item)
    uploads = tuple((item, file) for item, file in inputs if file is not None)
    if args.dry_run:
        for item, file in uploads:
            item["upload_id"] = f"(the upload of {file.path})"
        output.request(context.dialect().video(body))
        return None
    client = context.client(args, output)
    target = _target(args.out)
    output.about = f" (duration={args.duration} ratio={args.ratio} resolution={args.resolution})"
    try:
        clip = make_video(client, body, target=target, force=args.force, uploads=uploads, detach=args.detach)
    except CallError as error:
        if error.http != 404 or not error.partial.tried or error.partial.task_id:  # it is not about the model
            raise
        raise CallError.of(error, hint=options.with_nearest(client, model, error.hint)) from None
    return clip


def _input(role: str, source: str) -> tuple[dict[str, Any], LocalFile | None]:
    """A content part for a URL, or for a local file that is still to be uploaded."""
    from ..calls.uploads import LocalFile

    file = None
    if source.lower().startswith(("https://", "http://")):
        kind = _ENDINGS.get(os.path.splitext(source.partition("?")[0])[1].lower(), "image")
    else:
        file = LocalFile(source, ("image", "video", "audio") if role == "reference" else ("image",))
        kind = file.kind
    item = {"type": kind, "role": f"reference_{kind}" if role == "reference" else role}
    return (item if file else item | {"url": source}), file


def _target(out: str | None) -> str | None:
    """The path of the file; None if the URL alone is wanted."""
    from ..store import files

    if out == "-":
        raise UsageError("a video goes to a file: -o FILE")
    return None if out is None else files.in_folder(out, f"alltoken-video-{os.urandom(4).hex()}.mp4")


def _resume(args: argparse.Namespace, context: Context, output: Output) -> Clip | None:
    from ..calls.video import collect
    from ..store import files

    client = context.client(args, output, keyed=not args.dry_run)
    clip, row = options.take_up(args, client, Clip, "video")
    if args.dry_run:
        output.request(client.dialect.poll("video", clip.task_id or ""))
        return None
    if clip.files:
        output.note("task", "saved by an earlier run: nothing is left to fetch")
        return clip
    clip.target = _target(args.out) if args.out else row.get("output")
    if args.out:
        files.check_new([clip.target or ""], force=args.force)
    return collect(client, clip, force=args.force)


def _see_to(args: argparse.Namespace, context: Context, output: Output) -> Result | None:
    """List the tasks, or cancel one. Neither is a call of its own in the ledger."""
    from ..calls import video

    client = context.client(args, output, keyed=not args.dry_run)
    if args.cancel is not None:
        options.check_task_id(args.cancel)
    if args.dry_run:
        output.request(client.dialect.videos() if args.list else client.dialect.cancel(args.cancel))
        return None
    if args.list:
        found, total = video.list_videos(client)
        for item in found:
            names = ("id", "status", "model", "created_at")
            output.line("  ".join(one_line(str(item.get(name) or "-"), 60) for name in names))
        of = f" of {total:,}" if total is not None and total > len(found) else ""
        output.remark(f"{len(found)} task(s){of}")
        return Report(tasks=found)
    clip = video.cancel_video(client, args.cancel)
    output.line(clip.status or "unknown")
    return clip
