"""video: a clip, its URL or the file itself; and the tasks that make clips: resumed, listed, cancelled."""

from __future__ import annotations

from ..calls.uploads import source
from ..errors import UsageError
from ..text import one_line
from ..values import Clip, Film, Report
from . import options, tasks

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from ..cli.context import Context
    from ..cli.output import Output
    from ..values import Result

FIELDS = ("task_id", "status", "files", "resume", "video_url", "expires_at", *Clip.FACTS, "tasks")
HELP = "make a video clip"
WORDS = "PROMPT…"
EXAMPLE = 'alltoken-call video "waves at dusk" --duration 5 --ratio 16:9 -o waves.mp4'
MAX_WAIT = 1800.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of video."""
    parser.add_argument("words", nargs="*", metavar=WORDS, help="what to show; - stands for the text on stdin")
    clip = parser.add_argument_group("the clip")
    options.add_model(clip, "the model (default: $ALLTOKEN_VIDEO_MODEL, else seedance-1.5-pro)")
    clip.add_argument(
        "--duration",
        metavar="SECONDS",
        type=options.integer,
        help="length of the clip; -1 lets some models choose (default: 5)",
    )
    clip.add_argument("--ratio", metavar="W:H", help="16:9, 9:16, 4:3, 3:4, 21:9, 1:1 or adaptive (default: 16:9)")
    clip.add_argument(
        "--resolution",
        metavar="480p",
        type=options.name,
        help="480p, 720p or 1080p (default: 480p; elsewhere the model's)",
    )
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
    task = tasks.add_arguments(parser, "a file or a directory for the clip (default: print its URL)")
    task.add_argument("--cancel", metavar="ID", help="cancel a task, print its new status")
    task.add_argument("--list", action="store_true", help="list the tasks: id, status, model, time")


def run(args: argparse.Namespace, context: Context, output: Output) -> Result | None:
    """Make the clip, or see to the task of one."""
    others = sum((args.resume is not None, args.cancel is not None, args.list))
    if others > 1:
        raise UsageError("--resume, --cancel and --list exclude each other")
    tasks.check(args, context)
    if args.cancel is not None or args.list:
        tasks.no_words(args, "--cancel or --list")
        return _see_to(args, context, output)
    clip = tasks.result_of(args, context, output, Clip, _make, _collect)
    if clip is not None:
        with options.showing(clip, hint=clip.video_url and f"the clip is at {clip.video_url}"):
            if args.detach and args.resume is None:
                output.line(clip.task_id or "")
            elif clip.files:
                output.path(clip.files[0])
            elif clip.video_url:
                output.line(clip.video_url)
            if args.open and clip.keyed and not clip.files:
                output.warning("--open: the address needs the key; -o FILE fetches the clip")
            elif args.open:
                tasks.open_all(context, output, clip.files, clip.video_url)
    return clip


def _make(args: argparse.Namespace, context: Context, output: Output) -> Clip | None:
    from ..calls.video import make_video

    model, prompt, target, client, dialect = tasks.begun(args, context, output, Clip, _target)
    film = Film(
        model,
        prompt,
        duration=args.duration,
        ratio=args.ratio,
        resolution=args.resolution,
        audio=args.audio,
        seed=args.seed,
        first_frame=source(args.first_frame, dialect),
        last_frame=source(args.last_frame, dialect),
        references=[source(item, dialect, ("image", "video", "audio")) for item in args.reference],
        params=dict(args.param),
    )
    if client is None:
        names = {field: f"(the upload of {file.path})" for field, _, file in dialect.video_uploads(film)}
        output.request(dialect.video(film, names))
        return None

    def make() -> Clip:
        return make_video(client, film, target=target, force=args.force, detach=args.detach, once=args.once)

    return tasks.made(args, context, output, client, Clip, make, _collect)


def _target(args: argparse.Namespace, _output: Output) -> str | None:
    """The path of the file; None if the URL alone is wanted."""
    from ..store import files

    if args.out == "-":
        raise UsageError("a video goes to a file: -o FILE")
    return None if args.out is None else files.in_folder(args.out, files.new_name("video", ".mp4"))


def _collect(args: argparse.Namespace, context: Context, output: Output, clip: Clip) -> Clip:
    """Go on with a clip of an earlier run."""
    from ..calls.video import close, collect
    from ..store import files

    if args.out:
        clip.target = _target(args, output)
    if args.out and clip.task_id is not None:
        files.check_new([clip.target or ""], force=args.force)
    if clip.task_id is None:
        return close(context.client(args, output, keyed=False), clip)
    client = context.client(args, output)
    client.settle(clip)
    return collect(client, clip, force=args.force)


def _see_to(args: argparse.Namespace, context: Context, output: Output) -> Result | None:
    """List the tasks, or cancel one. Neither is a call of its own in the ledger."""
    from ..calls import video

    if args.cancel is not None:
        tasks.check_task_id(args.cancel)
    client = None if args.dry_run else context.settled(args, output)
    dialect = client.dialect if client else context.dialect(args, output)
    request = dialect.videos() if args.list else dialect.cancel(args.cancel)
    if request is None:
        raise UsageError("this gateway cannot list or cancel video tasks")
    if client is None:
        output.request(request)
        return None
    if args.list:
        found, total = video.list_videos(client, request)
        for item in found:
            names = ("id", "status", "model", "created_at")
            output.line("  ".join(one_line(str(item.get(name) or "-"), 60) for name in names))
        of = f" of {total:,}" if total is not None and total > len(found) else ""
        output.remark(f"{len(found)} task(s){of}")
        return Report(tasks=found)
    clip = video.cancel_video(client, request, args.cancel)
    output.line(clip.status or "unknown")
    return clip
