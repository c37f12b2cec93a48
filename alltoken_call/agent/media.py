"""`generate_image` and `generate_video` for Python programs: what the commands do, with the same promises, silently."""

from __future__ import annotations

import os

from ..calls.uploads import local_file, source
from ..errors import UsageError
from ..store import files
from ..values import Film, Picture
from . import settings
from .job import Job

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any

    from ..values import Clip, Saved

    Path = str | os.PathLike[str]


def generate_image(
    prompt: str,
    out: Path | None = None,
    *,
    model: str | None = None,
    size: str | None = None,
    ratio: str | None = None,
    quality: str | None = None,
    format: str | None = None,
    background: str | None = None,
    count: int | None = None,
    edit: Path | Iterable[Path] = (),
    mask: Path | None = None,
    system: str | None = None,
    via: str | None = None,
    params: Mapping[str, Any] | None = None,
    force: bool = False,
    max_wait: float = 600.0,
    timeout: float | None = None,
    gateway: str | None = None,
    api_key: str | None = None,
    base_url: str | None = None,
    ledger: bool = True,
    on_status: Callable[[str], object] | None = None,
    on_done: Callable[[Saved], object] | None = None,
) -> list[str]:
    """Make an image, or edit some, and save it: the paths of the files.

    `out` is a file or a directory; without it the file is ./alltoken-image-<8 hex>.png. The other options are those of
    `alltoken-call image`. `on_status` gets the task's status words, `on_done` the whole value with usage and cost.
    Raises `CallError`, whose `partial` has the task's id if there is one; `alltoken-call image --resume` goes on.
    """
    from ..calls.image import make_image

    target = _target(_checked(prompt, out), files.new_name("image", files.FORMATS.get(format or "", ".png")))
    job = Job("image", model, gateway, api_key, base_url, max_wait=max_wait, timeout=timeout, ledger=ledger)
    sources = [edit] if isinstance(edit, (str, os.PathLike)) else list(edit)
    if mask is not None and not sources:
        raise UsageError("mask marks where to edit: it needs edit")
    dialect = job.client.dialect
    asked = {"size": size, "ratio": ratio, "quality": quality, "format": format, "background": background}
    picture = Picture(
        job.model,
        prompt,
        **asked,
        ending=files.image_format(out or ""),
        count=None if count is None else int(settings.number("count", count, 1)),
        system=system,
        via=via,
        edit=[local_file(path, dialect) for path in sources],
        mask=None if mask is None else local_file(mask, dialect),
        params=settings.fields(params),
    )
    return job.run(lambda: make_image(job.client, picture, target=target, force=force), on_status, on_done).files


def generate_video(
    prompt: str,
    out: Path | None = None,
    *,
    model: str | None = None,
    duration: int | None = None,
    ratio: str | None = None,
    resolution: str | None = None,
    audio: bool | None = None,
    seed: int | None = None,
    first_frame: Path | None = None,
    last_frame: Path | None = None,
    references: Iterable[Path] = (),
    params: Mapping[str, Any] | None = None,
    force: bool = False,
    max_wait: float = 1800.0,
    timeout: float | None = None,
    gateway: str | None = None,
    api_key: str | None = None,
    base_url: str | None = None,
    ledger: bool = True,
    on_status: Callable[[str], object] | None = None,
    on_done: Callable[[Clip], object] | None = None,
) -> str:
    """Make a video clip: the path of the file if `out` is given (a file or a directory), else its URL.

    The other options are those of `alltoken-call video`; frames and references are files or URLs. `on_status`,
    `on_done` and errors as with `generate_image`.
    """
    from ..calls.video import make_video

    target = None if _checked(prompt, out) is None else _target(out, files.new_name("video", ".mp4"))
    job = Job("video", model, gateway, api_key, base_url, max_wait=max_wait, timeout=timeout, ledger=ledger)
    dialect = job.client.dialect
    film = Film(
        job.model,
        prompt,
        duration=duration,
        ratio=ratio,
        resolution=resolution,
        audio=audio,
        seed=seed,
        first_frame=source(first_frame, dialect),
        last_frame=source(last_frame, dialect),
        references=[source(item, dialect, ("image", "video", "audio")) for item in references],
        params=settings.fields(params),
    )
    clip = job.run(lambda: make_video(job.client, film, target=target, force=force), on_status, on_done)
    return clip.files[0] if clip.files else clip.video_url or ""


def _checked(prompt: str, out: Path | None) -> Path | None:
    """`out`, if it and the prompt can be used. Raises `UsageError`."""
    if not prompt.strip():
        raise UsageError("the prompt is empty", code="no_prompt")
    if out == "-":
        raise UsageError("out must be a file or a directory; '-' is not supported here")
    return out


def _target(out: Path | None, name: str) -> str:
    """The path of the file to make. Raises `OutputError` if there is no such directory."""
    return files.in_folder(None if out is None else os.fspath(out), name)
