"""What calls take, emit and return: what is asked for, events, and the values of each kind of call.

Plain classes: `dataclasses` would cost 5 ms at each start.
"""

from __future__ import annotations

import contextlib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from decimal import Decimal
    from typing import Any

    from .request import Upload


class Picture:
    """What is asked for when an image is: only what was given is not None.

    `edit` are the images to work from, `mask` marks where; `via` is images or chat, None for the model's own way.
    """

    def __init__(self, model: str, prompt: str, **given: Any) -> None:
        self.model = model
        self.prompt = prompt
        self.size: str | None = given.get("size")
        self.ratio: str | None = given.get("ratio")
        self.quality: str | None = given.get("quality")
        self.format: str | None = given.get("format")
        self.ending: str | None = given.get("ending")  # of the file's name, as a format
        self.background: str | None = given.get("background")
        self.count: int | None = given.get("count")
        self.system: str | None = given.get("system")
        self.via: str | None = given.get("via")
        self.edit: list[Upload] = given.get("edit", [])
        self.mask: Upload | None = given.get("mask")
        self.params: dict[str, Any] = given.get("params", {})


class Film:
    """What is asked for when a video is: only what was given is not None.

    Frames and references are URLs or local files.
    """

    def __init__(self, model: str, prompt: str, **given: Any) -> None:
        self.model = model
        self.prompt = prompt
        self.duration: int | None = given.get("duration")
        self.ratio: str | None = given.get("ratio")
        self.resolution: str | None = given.get("resolution")
        self.audio: bool | None = given.get("audio")
        self.seed: int | None = given.get("seed")
        self.first_frame: str | Upload | None = given.get("first_frame")
        self.last_frame: str | Upload | None = given.get("last_frame")
        self.references: list[str | Upload] = given.get("references", [])
        self.params: dict[str, Any] = given.get("params", {})


# Events: what happens while a call goes on. `on_event` gets them in order.


class Event:
    """Something that happened; the subclasses say what."""


class Text(Event):
    """A piece of the answer, as soon as it arrived."""

    def __init__(self, text: str) -> None:
        self.text = text


class Reasoning(Text):
    """A piece of the model's reasoning."""


class Trace(Text):
    """A request or an answer, for --verbose; without secrets."""


class Warned(Text):
    """Something that the user should know, though the call goes on."""


class Note(Event):
    """A line to tell under a tag: retry, status, task."""

    def __init__(self, tag: str, text: str) -> None:
        self.tag = tag
        self.text = text


class Submitted(Event):
    """A task was accepted: `task_id` is what the user has paid for, `about` what was asked for."""

    def __init__(self, task_id: str, about: str) -> None:
        self.task_id = task_id
        self.about = about


class Waiting(Event):
    """The task's status `seconds` after its submit; emitted at each poll, and between polls every `tick` seconds."""

    def __init__(self, task_id: str, status: str, seconds: float) -> None:
        self.task_id = task_id
        self.status = status
        self.seconds = seconds


class Downloading(Event):
    """`done` bytes of a result have arrived, of `total` if that is known."""

    def __init__(self, done: int, total: int | None) -> None:
        self.done = done
        self.total = total


class Stored(Event):
    """A result is in its place at `path`. `only`: the gateway keeps no second copy."""

    def __init__(self, path: str, size: int, *, only: bool) -> None:
        self.path = path
        self.size = size
        self.only = only


class Piped(Event):
    """An image for stdout is in the file at `path`, which is removed when the handler returns."""

    def __init__(self, path: str) -> None:
        self.path = path


class Ready(Event):
    """A video is ready: its address and facts are in `clip`; the download, if one is wanted, is still to come."""

    def __init__(self, clip: Clip) -> None:
        self.clip = clip


# Signals


class Shield:
    """Holds signals back while a paid result arrives. This one leaves a program's signal handlers alone; those of the
    command line and of a `Job` say in `check` what is raised, and look whether a signal may act now."""

    def __init__(self) -> None:
        self.depth = 0  # of `held` blocks; 0: a signal may act at once
        self.grace = 0.0  # seconds after which it may act in spite of the block; 0: never
        self.arriving = False  # what must not be interrupted has begun

    @contextlib.contextmanager
    def held(self, grace: float = 0.0) -> Iterator[None]:
        """Hold signals back until the block's end; with `grace`, and before `firm`, only for so many seconds.

        If the block fails, its failure goes first, and a signal waits for the next `check`.
        """
        outer = self.depth
        if not outer:
            self.grace, self.arriving = grace, False
        self.depth += 1
        try:
            yield
        finally:
            self.depth = outer
            if not outer:
                self.firm()
        if not outer:
            self.check()

    @contextlib.contextmanager
    def lifted(self) -> Iterator[None]:
        """Let signals through until the block's end, inside one in which they are held back."""
        self.check()
        outer, self.depth = self.depth, 0
        try:
            yield
        finally:
            self.depth = outer

    def firm(self) -> None:
        """What must not be interrupted has begun."""
        self.grace, self.arriving = 0.0, True

    def check(self) -> None:
        """Raise `Interrupted` if a signal was held back. Called where stopping is safe."""


# Values


class Cost:
    """US dollars as a decimal string, and where the figure comes from: gateway, estimate, none, local; None is unknown.

    `none` means that nothing was bought; then, and for `local`, `usd` is None.
    """

    def __init__(self, usd: str | None = None, source: str | None = None) -> None:
        self.usd = usd
        self.source = source


UNKNOWN = Cost()
NOTHING = Cost(source="none")
LOCAL = Cost(source="local")


class Result:
    """What every call returns. `usage` is the gateway's object as it came; `tried`: a request that can cost was
    attempted, so that the run has a cost, known or not."""

    def __init__(self, model: str | None = None) -> None:
        self.model = model
        self.usage: dict[str, Any] | None = None
        self.cost = UNKNOWN
        self.request_id: str | None = None
        self.tried = False
        self.row: int | None = None  # its row in the ledger, once it has one
        self.recorded = False  # all rows of the run are in the ledger
        self.resume: str | None = None  # the command that goes on with it

    def fields(self) -> dict[str, Any]:
        """The keys of the --json document that are the call's own."""
        return {}


class Report(Result):
    """The value of a command that buys nothing: its keys in the --json document."""

    def __init__(self, model: str | None = None, **fields: Any) -> None:
        super().__init__(model)
        self._fields = fields

    def fields(self) -> dict[str, Any]:
        """The keys that were given."""
        return self._fields


class Answer(Result):
    """An answer of chat or search: `text`, `reasoning`, and the calls that the model wants made."""

    def __init__(self, model: str) -> None:
        super().__init__(model)
        self.text: str | None = None
        self.reasoning: str | None = None
        self.echoed = False  # the model wants its reasoning back with the next request
        self.tool_calls: list[dict[str, Any]] = []
        self.finish_reason: str | None = None
        self.served_model: str | None = None

    def fields(self) -> dict[str, Any]:
        """The keys of chat and search."""
        return {
            "text": self.text,
            "reasoning": self.reasoning,
            "tool_calls": self.tool_calls or None,
            "finish_reason": self.finish_reason,
            "served_model": self.served_model,
        }


class Pending(Result):
    """A task at the gateway, and where its result is to be saved. `command` is the one that makes its kind.

    `status` is in the API's words; `resumable`: there is something left to fetch. `target` is a path, `-` for stdout,
    or None (a video's URL alone). `submitted` is in seconds since the epoch.
    """

    command: str

    def __init__(self, model: str | None, *, target: str | None, submitted: float) -> None:
        super().__init__(model)
        self.task_id: str | None = None
        self.status: str | None = None
        self.target = target
        self.submitted = submitted
        self.resumable = False
        self.calls: Decimal | int | None = None  # what a price per call is multiplied with, as the submit has told
        self.exact = False  # the first result goes to the target itself, however many come (--once)
        self.files: list[str] = []

    def fields(self) -> dict[str, Any]:
        """The keys of a task; `resume` is the command line's."""
        return {"task_id": self.task_id, "status": self.status, "files": self.files or None}


class Saved(Pending):
    """The images of a task: `files` are their paths; `shown` is 1 if one went to stdout instead (`Piped`)."""

    command = "image"
    shown = 0


class Clip(Pending):
    """A video: its URL and facts, and in `files` the downloaded copy if one was wanted."""

    FACTS = ("resolution", "ratio", "fps", "duration")
    command = "video"
    video_url: str | None = None
    expires_at: str | None = None
    keyed = False  # the URL needs the key
    ttl: int | None = None  # seconds that the URL lives, if its end is not told

    def __init__(self, model: str | None, *, target: str | None, submitted: float) -> None:
        super().__init__(model, target=target, submitted=submitted)
        self.facts: dict[str, Any] = dict.fromkeys(self.FACTS)

    def fields(self) -> dict[str, Any]:
        """The keys of a task, and the clip's."""
        return super().fields() | {"video_url": self.video_url, "expires_at": self.expires_at} | self.facts
