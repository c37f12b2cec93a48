"""`generate_image` and `generate_video` for Python programs: what the commands do, with the same promises, silently."""

from __future__ import annotations

import os

from .. import config
from ..calls.uploads import REFERENCES, TYPES, local_file
from ..errors import CallError, UsageError
from ..net.clock import Clock
from ..values import Film, Picture, Waiting
from .agent import client_of, environment

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ..calls.client import Client
    from ..values import Clip, Event, Saved

_FORMATS = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp"}


def generate_image(
    prompt: str,
    out: str | None = None,
    *,
    model: str | None = None,
    size: str | None = None,
    ratio: str | None = None,
    quality: str | None = None,
    format: str | None = None,
    background: str | None = None,
    count: int | None = None,
    edit: str | list[str] | None = None,
    mask: str | None = None,
    system: str | None = None,
    via: str | None = None,
    params: dict[str, Any] | None = None,
    force: bool = False,
    max_wait: float = 600.0,
    timeout: float | None = None,
    gateway: str | None = None,
    api_key: str | None = None,
    base_url: str | None = None,
    ledger: bool = True,
    on_status: Callable[[str], None] | None = None,
    on_done: Callable[[Saved], None] | None = None,
) -> list[str]:
    """Make an image, or edit one, and save it: the paths of the files.

    `out` is a file or a directory; without it the file is ./alltoken-image-<8 hex>.png. The other options are those of
    `alltoken-call image`. `on_status` gets the task's status words, `on_done` the whole value with usage and cost.
    Raises `CallError`, whose `partial` has the task's id if there is one.
    """
    from ..calls.image import make_image
    from ..store.files import in_folder

    client, name = _client(
        "image",
        model,
        gateway,
        api_key,
        base_url,
        max_wait=max_wait,
        timeout=timeout,
        ledger=ledger,
        on_status=on_status,
    )
    types = REFERENCES if client.dialect.at_once else TYPES
    sources = [edit] if isinstance(edit, str) else edit or []
    picture = Picture(
        name,
        prompt,
        size=size,
        ratio=ratio,
        quality=quality,
        format=format,
        ending=_FORMATS.get(os.path.splitext(out or "")[1].lower()),
        background=background,
        count=count,
        system=system,
        via=via,
        edit=[local_file(path, types=types) for path in sources],
        mask=local_file(mask, types=types) if mask else None,
        params=params or {},
    )
    if out == "-":
        raise UsageError("out is a file or a directory")
    target = in_folder(out, f"alltoken-image-{os.urandom(4).hex()}.{format or 'png'}")
    saved = _recorded(client, lambda: make_image(client, picture, target=target, force=force))
    if on_done is not None:
        on_done(saved)
    return saved.files


def generate_video(
    prompt: str,
    out: str | None = None,
    *,
    model: str | None = None,
    duration: int | None = None,
    ratio: str | None = None,
    resolution: str | None = None,
    audio: bool | None = None,
    seed: int | None = None,
    first_frame: str | None = None,
    last_frame: str | None = None,
    references: list[str] | None = None,
    params: dict[str, Any] | None = None,
    force: bool = False,
    max_wait: float = 1800.0,
    timeout: float | None = None,
    gateway: str | None = None,
    api_key: str | None = None,
    base_url: str | None = None,
    ledger: bool = True,
    on_status: Callable[[str], None] | None = None,
    on_done: Callable[[Clip], None] | None = None,
) -> str:
    """Make a video clip: the path of the file if `out` is given (a file or a directory), else its URL.

    The other options are those of `alltoken-call video`; frames and references are files or URLs. `on_status`,
    `on_done` and errors as with `generate_image`.
    """
    from ..calls.video import make_video
    from ..store.files import in_folder

    client, name = _client(
        "video",
        model,
        gateway,
        api_key,
        base_url,
        max_wait=max_wait,
        timeout=timeout,
        ledger=ledger,
        on_status=on_status,
    )
    still = REFERENCES if client.dialect.at_once else TYPES

    def source(item: str | None, kinds: tuple[str, ...] = ("image",), types: tuple[str, ...] = still) -> Any:
        is_url = item is None or item.lower().startswith(("https://", "http://"))
        return item if is_url or item is None else local_file(item, kinds, types)

    film = Film(
        name,
        prompt,
        duration=duration,
        ratio=ratio,
        resolution=resolution,
        audio=audio,
        seed=seed,
        first_frame=source(first_frame),
        last_frame=source(last_frame),
        references=[source(item, ("image", "video", "audio"), TYPES) for item in references or []],
        params=params or {},
    )
    target = None if out is None else in_folder(out, f"alltoken-video-{os.urandom(4).hex()}.mp4")
    clip = _recorded(client, lambda: make_video(client, film, target=target, force=force))
    if on_done is not None:
        on_done(clip)
    return clip.files[0] if clip.files else clip.video_url or ""


def _client(
    command: str,
    model: str | None,
    gateway: str | None,
    api_key: str | None,
    base_url: str | None,
    *,
    max_wait: float,
    timeout: float | None,
    ledger: bool,
    on_status: Callable[[str], None] | None,
) -> tuple[Client, str]:
    """The client of one call, and the model to ask. Raises `UsageError` and `KeyProblem`."""
    last: list[str] = []

    def on_event(event: Event) -> None:
        if on_status is not None and isinstance(event, Waiting) and last[-1:] != [event.status]:
            last.append(event.status)
            on_status(event.status)

    environ = environment(gateway, api_key, base_url)
    client = client_of(environ, gateway, Clock(max_wait=max_wait), timeout=timeout, ledger=ledger, on_event=on_event)
    client.settle()
    name = model or config.default_model(environ, client.gateway, command) or client.dialect.defaults.get(command)
    if name is None:
        hint = f"model=…, or {client.gateway.prefix}{command.upper()}_MODEL"
        raise UsageError(f"no model is named for {client.gateway.name}", code="no_model", hint=hint)
    return client, name


def _recorded(client: Client, call: Callable[[], Any]) -> Any:
    """What a call returns, with its row in the ledger finished, also if it fails."""
    try:
        value = call()
    except CallError as error:
        if error.partial is not None and error.partial.tried:
            client.record(error.partial, ended=client.clock.now(), exit_status=int(error.status))
        raise
    client.record(value, ended=client.clock.now(), exit_status=0)
    return value
