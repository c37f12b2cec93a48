"""image: one picture, or a few, saved where they should be; paid for once, never lost."""

from __future__ import annotations

import os

from ..errors import OutputError, UsageError
from ..values import Picture, Saved
from . import options

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
_FORMATS = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp"}
_ENDINGS = {"png": ".png", "jpeg": ".jpg", "webp": ".webp"}


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
    picture.add_argument("--format", choices=_ENDINGS, help="png, jpeg or webp (default: as the name of -o ends)")
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
    options.add_task(parser, "a file, a directory, or - for stdout (default: ./alltoken-image-<8 hex>.png)")


def run(args: argparse.Namespace, context: Context, output: Output) -> Saved | None:
    """Make the image, or resume a task that is making one."""
    options.check_open(args)
    if args.once:
        options.check_once(args, context)
    if args.once and not args.dry_run and os.path.lexists(args.out):
        saved: Saved | None = options.there(args, Saved, output)
    else:
        saved = _make(args, context, output) if args.resume is None else _resume(args, context, output)
    if saved is not None:
        with options.showing(saved):
            if args.detach and args.resume is None:
                output.line(saved.task_id or "")
            for path in () if saved.target == "-" else saved.files:
                output.path(path)
            if args.open:
                options.open_all(context, output, saved.files)
    return saved


def _make(args: argparse.Namespace, context: Context, output: Output) -> Saved | None:
    from ..calls.image import make_image
    from ..calls.uploads import REFERENCES, TYPES, local_file

    if args.mask and not args.edit:
        raise UsageError("--mask marks where to edit: it needs --edit FILE")
    client = None if args.dry_run else context.client(args, output)
    model = args.model or options.default_model(args, context, "image")
    prompt = context.prompt(args.words, output, only_dash=True)
    target = _target(args, output) if client else "-"
    if client:
        # What is wrong here was found before anybody is asked.
        client.settle(Saved(model, target=target, submitted=context.clock.started))
    dialect = client.dialect if client else context.dialect(args, output)
    types = REFERENCES if dialect.at_once else TYPES
    edit = [local_file(path, types=types) for path in args.edit]
    mask = local_file(args.mask, types=types) if args.mask else None
    picture = Picture(
        model,
        prompt,
        size=args.size,
        ratio=args.ratio,
        quality=args.quality,
        format=args.format,
        ending=_FORMATS.get(os.path.splitext(args.out or "")[1].lower()),
        background=args.background,
        count=args.count,
        system=args.system,
        via=args.via,
        edit=edit,
        mask=mask,
        params=dict(args.param),
    )
    if args.detach and dialect.at_once:
        raise UsageError("--detach: the image comes at once here, there is no task to leave")
    if client is None:
        names = {field: f"(the upload of {file.path})" for field, _, file in dialect.image_uploads(picture)}
        output.request(dialect.image(picture, uploads=names))
        return None

    def make() -> Saved:
        return make_image(client, picture, target=target, force=args.force, detach=args.detach, once=args.once)

    return options.made(args, context, output, client, Saved, make, _collect)


def _resume(args: argparse.Namespace, context: Context, output: Output) -> Saved | None:
    options.no_words(args, "--resume")
    saved, row = options.take_up(args, context, output, Saved)
    dialect = context.dialect(args, output)
    if args.resume and dialect.at_once:
        raise UsageError("--resume ID: images come at once at this gateway, there are no tasks")
    if args.dry_run:
        output.request(dialect.poll("image", saved.task_id) if saved.task_id else None)
        return None
    if saved.files:
        output.note("task", "saved by an earlier run: nothing is left to fetch")
        return saved
    args.out = args.out or row.get("output")
    saved.target = _target(args, output)
    return _collect(args, context, output, saved)


def _collect(args: argparse.Namespace, context: Context, output: Output, saved: Saved) -> Saved:
    """Go on with an image of an earlier run."""
    from ..calls.image import collect, collect_at_once

    client = context.client(args, output, keyed=saved.task_id is not None)
    take = collect if saved.task_id is not None else collect_at_once
    return take(client, saved, force=args.force)


def _target(args: argparse.Namespace, output: Output) -> str:
    """The path of the file, or `-`. Raises `OutputError` if there can be none."""
    from ..store import files

    if args.out != "-":
        return files.in_folder(args.out, f"alltoken-image-{os.urandom(4).hex()}{_ENDINGS[args.format or 'png']}")
    if output.json_mode or (args.count or 1) > 1:
        raise UsageError("-o - puts the bytes of one image on stdout: not with --json, nor with -n")
    if output.to_terminal:
        raise OutputError("an image does not go to a terminal", hint="choose a file with -o, or pipe it on")
    return "-"
