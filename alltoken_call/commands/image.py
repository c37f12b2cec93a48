"""image: one picture, or a few, saved where they should be; paid for once, never lost."""

from __future__ import annotations

from ..errors import OutputError, UsageError
from ..values import Picture, Saved
from . import options, tasks

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from ..cli.context import Context
    from ..cli.output import Output

FIELDS = ("task_id", "status", "files", "resume")
HELP = "make an image, or edit one"
WORDS = "PROMPT…"
EXAMPLE = 'alltoken-call image "a lighthouse in fog" --size 1536x1024 -o lighthouse.png'
MAX_WAIT = 600.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of image."""
    parser.add_argument("words", nargs="*", metavar=WORDS, help="what to draw; - stands for the text on stdin")
    picture = parser.add_argument_group("the picture")
    options.add_model(picture, "the model (default: $ALLTOKEN_IMAGE_MODEL, else gpt-image-2)")
    picture.add_argument(
        "--size",
        metavar="WxH",
        type=options.name,
        help="1024x1024, 1536x1024, 1024x1536, others up to 3840x2160, or auto (default: 1024x1024); elsewhere what the"
        " model takes, as '1280*1280' or 2K (default: the model's)",
    )
    picture.add_argument("--ratio", metavar="W:H", help="the shape of an image that is made through chat, as 16:9")
    picture.add_argument(
        "--quality",
        metavar="LEVEL",
        type=options.name,
        help="low, medium, high or auto (default: low; elsewhere the model's)",
    )
    picture.add_argument(
        "--format", choices=("png", "jpeg", "webp"), help="png, jpeg or webp (default: as the name of -o ends)"
    )
    picture.add_argument(
        "--background",
        choices=("auto", "opaque", "transparent"),
        help="auto, opaque or transparent (default: the model's)",
    )
    picture.add_argument("-n", "--count", metavar="N", type=options.positive, help="how many images (default: 1)")
    picture.add_argument(
        "--edit",
        metavar="FILE",
        action="append",
        default=[],
        help="an image to edit; repeatable at gateways other than AllToken",
    )
    picture.add_argument("--mask", metavar="FILE", help="where to edit it: an image of the same size")
    picture.add_argument("-s", "--system", metavar="TEXT", type=options.text, help="the system message, through chat")
    picture.add_argument(
        "--via",
        choices=("images", "chat"),
        help="the endpoint at gateways other than AllToken: images or chat (default: as the model's name says)",
    )
    options.add_param(picture)
    tasks.add_arguments(parser, "a file, a directory, or - for stdout (default: ./alltoken-image-<8 hex>.png)")


def run(args: argparse.Namespace, context: Context, output: Output) -> Saved | None:
    """Make the image, or resume a task that is making one."""
    tasks.check(args, context)
    saved = tasks.result_of(args, context, output, Saved, _make, _collect)
    if saved is not None:
        with options.showing(saved):
            if args.detach and args.resume is None:
                output.line(saved.task_id or "")
            for path in () if saved.target == "-" else saved.files:
                output.path(path)
            if args.open:
                tasks.open_all(context, output, saved.files)
    return saved


def _make(args: argparse.Namespace, context: Context, output: Output) -> Saved | None:
    from ..calls.image import make_image
    from ..calls.uploads import local_file
    from ..store import files

    if args.mask and not args.edit:
        raise UsageError("--mask marks where to edit: it needs --edit FILE")
    model, prompt, target, client, dialect = tasks.begun(args, context, output, Saved, _target)
    picture = Picture(
        model,
        prompt,
        size=args.size,
        ratio=args.ratio,
        quality=args.quality,
        format=args.format,
        ending=files.image_format(args.out or ""),
        background=args.background,
        count=args.count,
        system=args.system,
        via=args.via,
        edit=[local_file(path, dialect) for path in args.edit],
        mask=local_file(args.mask, dialect) if args.mask else None,
        params=dict(args.param),
    )
    if args.detach and dialect.at_once:
        raise UsageError("--detach: at this gateway an image comes at once, not as a task")
    if client is None:
        names = {field: f"(the upload of {file.path})" for field, _, file in dialect.image_uploads(picture)}
        output.request(dialect.image(picture, uploads=names))
        return None

    def make() -> Saved:
        place = target or "-"
        return make_image(client, picture, target=place, force=args.force, detach=args.detach, once=args.once)

    return tasks.made(args, context, output, client, Saved, make, _collect)


def _collect(args: argparse.Namespace, context: Context, output: Output, saved: Saved) -> Saved:
    """Go on with an image of an earlier run."""
    from ..calls.image import collect, collect_at_once

    args.out = args.out or saved.target
    saved.target = _target(args, output)
    client = context.client(args, output, keyed=saved.task_id is not None)
    take = collect if saved.task_id is not None else collect_at_once
    return take(client, saved, force=args.force)


def _target(args: argparse.Namespace, output: Output) -> str:
    """The path of the file, or `-`. Raises `OutputError` if there can be none."""
    from ..store import files

    if args.out != "-":
        return files.in_folder(args.out, files.new_name("image", files.FORMATS[args.format or "png"]))
    if output.json_mode or (args.count or 1) > 1:
        raise UsageError("-o - puts the bytes of one image on stdout: not with --json, nor with -n")
    if output.to_terminal:
        raise OutputError("an image does not go to a terminal", hint="choose a file with -o, or pipe it on")
    return "-"
