"""image: one picture, or a few, saved where they should be; paid for once, never lost."""

from __future__ import annotations

import os

from ..errors import CallError, OutputError, UsageError
from ..values import Saved
from . import options

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from typing import Any

    from ..cli.context import Context
    from ..cli.output import Output

FIELDS = ("task_id", "status", "files", "resume")
HELP = "make an image, or edit one"
EXAMPLE = 'alltoken-call image "a lighthouse in fog" --size 1536x1024 -o lighthouse.png'
MAX_WAIT = 600.0
_FORMATS = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp"}
_ENDINGS = {"png": ".png", "jpeg": ".jpg", "webp": ".webp"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of image."""
    parser.add_argument("words", nargs="*", metavar="PROMPT", help="what to draw; - stands for the text on stdin")
    picture = parser.add_argument_group("the picture")
    picture.add_argument(
        "-m",
        "--model",
        metavar="ID",
        type=options.name,
        help="the model (default: $ALLTOKEN_IMAGE_MODEL, else gpt-image-2)",
    )
    picture.add_argument(
        "--size",
        metavar="WxH",
        default="1024x1024",
        help="1024x1024, 1536x1024, 1024x1536, others up to 3840x2160, or auto (default: 1024x1024)",
    )
    picture.add_argument("--quality", metavar="LEVEL", default="low", help="low, medium, high or auto (default: low)")
    picture.add_argument("--format", choices=_ENDINGS, help="png, jpeg or webp (default: as the name of -o ends)")
    picture.add_argument(
        "--background",
        choices=("auto", "opaque", "transparent"),
        help="auto, opaque or transparent (default: the model's)",
    )
    picture.add_argument("-n", "--count", metavar="N", type=options.positive, help="how many images (default: 1)")
    picture.add_argument("--edit", metavar="FILE", help="an image to edit")
    picture.add_argument("--mask", metavar="FILE", help="where to edit it: an image of the same size")
    options.add_param(picture)
    options.add_task(parser, "a file, a directory, or - for stdout (default: ./alltoken-image-<8 hex>.png)")


def run(args: argparse.Namespace, context: Context, output: Output) -> Saved | None:
    """Make the image, or resume a task that is making one."""
    saved = _make(args, context, output) if args.resume is None else _resume(args, context, output)
    if saved is not None:
        with options.showing(saved):
            if args.detach and args.resume is None:
                output.line(saved.task_id or "")
            for path in () if saved.target == "-" else saved.files:
                output.path(path)
    return saved


def _make(args: argparse.Namespace, context: Context, output: Output) -> Saved | None:
    from ..calls.image import make_image
    from ..calls.uploads import LocalFile

    if args.mask and not args.edit:
        raise UsageError("--mask marks where to edit: it needs --edit FILE")
    sources = tuple(LocalFile(path) for path in (args.edit, args.mask) if path)
    model = args.model or options.default_model(context, "image")
    text = context.prompt(args.words, output, only_dash=True)
    body: dict[str, Any] = {"model": model, "prompt": text, "size": args.size, "quality": args.quality}
    form = args.format or (_FORMATS.get(os.path.splitext(args.out)[1].lower()) if args.out else None)
    body |= options.given(output_format=form, background=args.background, n=args.count) | dict(args.param)
    if args.dry_run:
        names = ("image_upload_id", "mask_upload_id")
        body |= {name: f"(the upload of {source.path})" for name, source in zip(names, sources)}
        output.request(context.dialect().image(body, key="", edit=bool(sources)))
        return None
    client = context.client(args, output)
    target = _target(args, output)
    output.about = f" (size={args.size} quality={args.quality})"
    try:
        saved = make_image(client, body, target=target, force=args.force, sources=sources, detach=args.detach)
    except CallError as error:
        if error.http != 404 or not error.partial.tried or error.partial.task_id:  # it is not about the model
            raise
        raise CallError.of(error, hint=options.with_nearest(client, model, error.hint)) from None
    return saved


def _resume(args: argparse.Namespace, context: Context, output: Output) -> Saved | None:
    from ..calls.image import collect

    options.no_words(args, "--resume")
    client = context.client(args, output, keyed=not args.dry_run)
    saved, row = options.take_up(args, client, Saved, "image")
    if args.dry_run:
        output.request(client.dialect.poll("image", saved.task_id or ""))
        return None
    if saved.files:
        output.note("task", "saved by an earlier run: nothing is left to fetch")
        return saved
    args.out = args.out or row.get("output")
    saved.target = _target(args, output)
    return collect(client, saved, force=args.force)


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
