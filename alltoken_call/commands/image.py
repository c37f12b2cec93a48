"""image: one picture, or a few, saved where they should be; paid for once, lost never."""

from __future__ import annotations

import os

from .. import config
from ..store import files
from ..cli import options, prompt
from ..calls import resume, tasks
from ..errors import OutputError, UsageError
from ..calls.results import Results
from ..net.transport import Transport
from ..calls.uploads import LocalFile, upload

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from typing import Any

    from ..cli.context import Context
    from ..cli.output import Output

FIELDS = tasks.FIELDS
HELP = "make an image, or edit one"
EXAMPLE = 'alltoken-call image "a lighthouse in fog" --size 1536x1024 -o lighthouse.png'
MAX_WAIT = 600.0
PATH = "/v1/images/generations"
_FORMATS = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp"}
_ENDINGS = {"png": ".png", "jpeg": ".jpg", "webp": ".webp"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of image."""
    parser.add_argument("words", nargs="*", metavar="PROMPT", help="what to draw; - takes stdin's text")
    picture = parser.add_argument_group("the picture")
    picture.add_argument("-m", "--model", metavar="ID", type=options.name, help="the model")
    picture.add_argument("--size", metavar="WxH", default="1024x1024", help="or auto (1024x1024)")
    picture.add_argument("--quality", metavar="LEVEL", default="low", help="low, medium, high or auto (low)")
    picture.add_argument("--format", choices=_ENDINGS, help="(as -o ends)")
    picture.add_argument("--background", choices=("auto", "opaque", "transparent"), help="what lies behind")
    picture.add_argument("-n", "--count", metavar="N", type=options.positive, help="how many (1)")
    picture.add_argument("--edit", metavar="FILE", help="the image to edit")
    picture.add_argument("--mask", metavar="FILE", help="where to edit it")
    options.add_param(picture)
    options.add_task(parser)


def run(args: argparse.Namespace, context: Context, output: Output) -> None:
    """Make the image, or resume a task that is making one."""
    if args.resume is None:
        _make(args, context, output)
    else:
        _resume(args, context, output)


def _make(args: argparse.Namespace, context: Context, output: Output) -> None:
    model = args.model or config.default_model(context.environ, "image")
    output.report["model"] = model
    if args.mask and not args.edit:
        raise UsageError("--mask marks where to edit: it needs --edit FILE")
    sources = [LocalFile(path) for path in (args.edit, args.mask) if path]
    text = prompt.assemble(args.words, context, output, only_dash=True)
    body: dict[str, Any] = {"model": model, "prompt": text, "size": args.size, "quality": args.quality}
    form = args.format or (_FORMATS.get(os.path.splitext(args.out)[1].lower()) if args.out else None)
    body |= options.given(output_format=form, background=args.background, n=args.count) | dict(args.param)
    path = "/v1/images/edits" if sources else f"{PATH}/async"
    fields = list(zip(("image_upload_id", "mask_upload_id"), ("image_edit_source", "image_edit_mask"), sources))
    if args.dry_run:
        body |= {name: f"(the upload of {source.path})" for name, _, source in fields}
        output.show_request("POST", config.base_url(context.environ) + path, body)
        return
    transport = Transport(context, output, args.timeout)
    target = _target(args, output)
    if target != "-":
        files.check_new(files.numbered(target, args.count or 1), force=args.force)
    for name, purpose, source in fields:
        body[name] = upload(transport, source, purpose)
    run_ = tasks.Tasks(context, output, transport, PATH, pause=2.0, one_shot=True)
    about = f" (size={args.size} quality={args.quality})"
    run_.submit(path, body, key=os.urandom(16).hex(), about=about, target=target)
    if args.detach:
        run_.detach(target)
    else:
        Results(context, output, transport, run_, target, force=args.force).collect()
        came, wanted = len(output.report["files"] or ()), args.count or 1
        if came not in (0, wanted):
            output.warning(f"{wanted} image(s) were asked for, {came} came")


def _resume(args: argparse.Namespace, context: Context, output: Output) -> None:
    if args.words[:1] not in ([], ["#"]):  # zsh hands on the comment of the resume line that we print
        raise UsageError("--resume takes up a task that has its prompt already: no words go with it")
    row = resume.take_up(args, PATH, context, output)
    if row is None:
        return
    transport = Transport(context, output, args.timeout)
    run_ = tasks.Tasks(context, output, transport, PATH, pause=2.0, one_shot=True, submitted=row.get("started"))
    args.out = args.out or row.get("output")
    Results(context, output, transport, run_, _target(args, output), force=args.force).collect(resumed=True)


def _target(args: argparse.Namespace, output: Output) -> str:
    """The path of the file, or `-`. Raises `OutputError` where there can be none."""
    if args.out != "-":
        return files.in_folder(args.out, f"alltoken-image-{os.urandom(4).hex()}{_ENDINGS[args.format or 'png']}")
    if output.json_mode or (args.count or 1) > 1:
        raise UsageError("-o - puts the bytes of one image on stdout: not with --json, nor with -n")
    if output.to_terminal:
        raise OutputError("an image does not go to a terminal", hint="choose a file with -o, or pipe it on")
    return "-"
