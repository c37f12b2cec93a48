"""What every OpenAI-compatible server has in common: requests made and replies read, without I/O.

A dialect makes `Request`s and reads what comes back into values. It never opens, waits, prints or records anything;
the engine in `calls/` does, and does not ask which gateway it talks to.
"""

from __future__ import annotations

import re

from ..errors import ExitStatus, NetError, UsageError
from ..request import POLLING, UNANSWERED, Repeat, Request, Upload
from ..wire import segment, text_of
from . import entries, refusals
from .figures import dollars_for
from .task import Task, is_task_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from decimal import Decimal
    from typing import Any

    from ..values import Cost, Film, Picture
    from .prices import Prices


ONE_ATTEMPT = Repeat(429, bare=range(500, 600))  # a submit that costs, and that nothing identifies
_REFUSABLE = ("stream_options", "max_tokens", "temperature")
_REFUSAL = r"unsupported|not supported|unknown|unrecognized|not permitted|use ['\"`]?\w+['\"`]? instead"


class OpenAI:
    """A plain OpenAI-compatible server at `root`."""

    name = "openai"
    at_once = True  # an image is the answer to its request; there is no task to wait for
    page_is_a_wrong_root = True  # so is a web page with status 200; one with 404 is anywhere
    lifetime: float | None = None  # seconds from submit until a task expires
    done_is_whole = True  # [DONE] says that the answer is whole
    pauses: Mapping[str, float] = {"image": 2.0, "video": 5.0}  # seconds between two polls
    searching: tuple[str, ...] = ()  # the families that search the web
    verified: tuple[str, ...] = ()
    doubt = "look at the gateway's log or usage page before you run it again"  # if a submit's outcome is unknown
    # Headers; the last two are LiteLLM's and OpenRouter's.
    request_ids: tuple[str, ...] = ("x-request-id", "x-gateway-request-id", "x-litellm-call-id", "x-generation-id")
    hints: Mapping[ExitStatus, str] = refusals.HINTS
    slugs: Mapping[str, int] = {}  # an error's code → the HTTP status that it means, where it comes without one
    types: Mapping[str, int] = refusals.TYPES

    def __init__(self, root: str) -> None:
        self.root = root

    # Errors

    def request_id(self, header: Callable[[str], str | None]) -> str | None:
        """The request id in the headers of an answer."""
        return next((value for name in self.request_ids if (value := header(name))), None)

    def refusal(self, document: Mapping[str, Any], http: int, **about: Any) -> NetError:
        """The failure in an error envelope, as `refusals.refusal`."""
        return refusals.refusal(document, http, hints=self.hints, slugs=self.slugs, types=self.types, **about)

    def fails_everywhere(self, code: str) -> bool:
        """Whether an error's code says that no provider of the model works, so that only another model can help."""
        return code == "all_providers_failed"

    # Chat

    def chat(self, body: Mapping[str, Any]) -> Request:
        """A completion, streamed or not as `body` says."""
        return Request("POST", f"{self.root}/v1/chat/completions", body=body, repeat=UNANSWERED)

    def thinking(self, budget: int) -> dict[str, Any]:  # noqa: ARG002  # for dialects that have it
        """The request fields that ask for reasoning. Raises `UsageError` if there are none that every server knows."""
        raise UsageError("--thinking is AllToken's own", hint="here -p reasoning_effort=low|medium|high may work")

    def search(self) -> dict[str, Any]:
        """The request fields that ask for a search. Raises `UsageError` if the gateway has none of its own."""
        hint = "a model that searches by itself: chat -m ID; some take chat -p 'web_search_options={}'"
        raise UsageError("this gateway has no search of its own", hint=hint)

    def without_refused(self, body: Mapping[str, Any], error: NetError) -> tuple[dict[str, Any], str] | None:
        """The body without the field that the server has refused, and the field's name; None if it is about
        something else."""
        if error.http not in (400, 422) or not re.search(_REFUSAL, error.message, re.IGNORECASE):
            return None
        for name in _REFUSABLE:
            if name in body and name in error.message:
                rest = {key: value for key, value in body.items() if key != name}
                if name == "max_tokens" and "max_completion_tokens" not in rest:
                    rest["max_completion_tokens"] = body[name]
                return rest, name
        return None

    # Money

    def comment_cost(self, figures: Mapping[str, Any], usage: Mapping[str, Any] | None) -> Cost | None:  # noqa: ARG002
        """The cost in a comment after the end of a stream with that usage; None if the comment is about something
        else, as everywhere but at gateways that have one."""
        return None

    def usage_cost(self, usage: Mapping[str, Any] | None) -> Cost | None:
        """The cost that the usage block tells: xAI's ticks of 10⁻¹⁰ dollars, else dollars."""
        usage = usage or {}
        ticks, figure = usage.get("cost_in_usd_ticks"), usage.get("cost")
        if isinstance(figure, dict):
            figure = figure.get("total_cost")
        if type(ticks) is int and ticks >= 0:
            from decimal import Decimal

            figure = format(Decimal(ticks).scaleb(-10), "f")
        return dollars_for(figure, usage)

    def header_cost(self, header: Callable[[str], str | None], usage: Mapping[str, Any] | None) -> Cost | None:
        """The cost that a header tells (LiteLLM)."""
        return dollars_for(header("x-litellm-response-cost"), usage or {})

    def price_list(self) -> Request:
        """The models with their prices."""
        return Request("GET", f"{self.root}/v1/models")

    def price_entry(self, model: str) -> Request | None:  # noqa: ARG002  # for dialects that have it
        """The price list's entry of one model alone; None if there is only the list."""
        return None

    def prices(self, entry: Mapping[str, Any]) -> Prices:
        """The prices in a list's entry: OpenRouter's strings are dollars per token."""
        from . import prices

        spot = entry.get("pricing")
        spots = [spot] if isinstance(spot, dict) else []

        def million(*names: str) -> Any:
            price = prices.first(spots, names)
            return None if price is None else prices.EXACT.scaleb(price, 6)

        return prices.Prices(
            million("prompt"),
            million("completion"),
            cached=million("input_cache_read"),
            created=million("input_cache_write"),
        )

    def balance(self) -> Request | None:
        """What the key has left; None if the gateway does not tell a key."""
        return None

    def read_balance(self, document: Mapping[str, Any], unit: int) -> dict[str, str | None]:
        """Dollars by what they are: left, used, granted; None if unlimited. `unit` is as in `read_log`."""
        raise NotImplementedError

    def log(self) -> Request | None:
        """The gateway's log of this key's calls; None if it has none."""
        return None

    def status(self) -> Request | None:
        """The gateway's public settings; None if it has none."""
        return None

    def unit(self, document: Mapping[str, Any]) -> int:  # noqa: ARG002  # for dialects that have one
        """How much of the gateway's own unit is one dollar, from `status`."""
        return 1

    def read_log(self, document: Mapping[str, Any], unit: int) -> dict[str, str]:
        """Dollars by request id, from `log`."""
        raise NotImplementedError

    # Models

    def model_lists(self, kind: str) -> list[Request]:  # noqa: ARG002  # for dialects that have several
        """The lists to ask for models of a kind: chat, image, video or all."""
        return [Request("GET", f"{self.root}/v1/models")]

    def entries(self, document: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]] | None:
        """The models of a list in any of its shapes, each with its id; None if it is not a list."""
        return entries.entries_of(document)

    def is_of(self, entry: Mapping[str, Any], kind: str, request: Request) -> bool:  # noqa: ARG002  # as `model_lists`
        """Whether an entry is of a kind; one that does not say what it is counts as chat."""
        found = entries.kinds(entry)
        return kind == "all" or (kind in found if found else kind == "chat")

    def page(self, name: str) -> Request:
        """A public page: health, providers or rankings. Raises `UsageError` if the gateway has none."""
        raise UsageError(f"this gateway has no page of {name}: it is AllToken's own", hint="--gateway alltoken has it")

    # Images

    def image(self, picture: Picture, *, key: str = "", uploads: Mapping[str, str] | None = None) -> Request:  # noqa: ARG002
        """Ask for an image. `key` identifies the request, and `uploads` are the ids of what `image_uploads` names,
        for dialects that have these. Raises `UsageError` for what it has no field for."""
        from . import pictures

        if pictures.goes_through_chat(picture):
            return pictures.chat_request(self.root, picture, modalities=True)
        return pictures.images_request(self.root, picture)

    def image_uploads(self, picture: Picture) -> list[tuple[str, str, Upload]]:  # noqa: ARG002  # as `image`
        """The local files that have to be uploaded first: field, purpose and file of each."""
        return []

    def images(self, document: Mapping[str, Any]) -> list[dict[str, str | None]]:
        """The images in an answer: each has its base64 text in `b64_json`, or its address in `url`."""
        from . import pictures

        return pictures.images_of(document)

    def may_hold_images(self, document: Mapping[str, Any]) -> bool:  # noqa: ARG002  # as `image`
        """Whether an answer may be the one that brings the images."""
        return True

    # Videos

    def video(self, film: Film, uploads: Mapping[str, str] | None = None) -> Request:  # noqa: ARG002  # as `image`
        """Submit a video. It is never repeated if its outcome is unknown. Raises as `image`."""
        refuse_options(
            ("--ratio", film.ratio),
            ("--audio", film.audio),
            ("--seed", film.seed),
            ("--last-frame", film.last_frame),
            ("--reference", film.references or None),
        )
        body: dict[str, Any] = {"model": film.model, "prompt": film.prompt, "seconds": str(film.duration or 5)}
        if film.resolution is not None:
            body["size"] = film.resolution
        if film.first_frame is not None:
            body["input_reference"] = address(film.first_frame)
        return Request("POST", f"{self.root}/v1/videos", body=body | film.params, repeat=ONE_ATTEMPT)

    def video_uploads(self, film: Film) -> list[tuple[str, str, Upload]]:  # noqa: ARG002  # as `image_uploads`
        """The local files that have to be uploaded first, as `image_uploads`."""
        return []

    def poll(self, command: str, task_id: str, *, grace: float = 0.0) -> Request:
        """Ask for the state of a task. Raises `UsageError` if there are none of this `command`."""
        if command == "image":
            raise UsageError("--resume ID: at this gateway images come at once, not as tasks")
        return Request("GET", f"{self.root}/v1/videos/{segment(task_id)}", repeat=POLLING, grace=grace)

    def videos(self) -> Request | None:
        """The list of video tasks; None if the gateway has none."""
        return None

    def cancel(self, task_id: str) -> Request | None:  # noqa: ARG002  # as `image`
        """Cancel a video task; None if the gateway cannot."""
        return None

    def presign(self, body: Mapping[str, Any]) -> Request:
        """Ask for an address to upload to, if there are uploads."""
        raise NotImplementedError

    def accepted(self, document: Mapping[str, Any]) -> str | None:
        """The id of the task that a submit's answer tells of."""
        task_id = text_of(document.get("id")) or text_of(document.get("task_id"))
        return task_id if is_task_id(task_id) else None

    def duplicate(self, error: NetError) -> str | None:  # noqa: ARG002  # for dialects that know of it
        """The task that an identical submit has made before, which this refusal hands over."""
        return None

    def is_not_yet(self, error: NetError, age: float) -> bool:  # noqa: ARG002  # as `duplicate`
        """Whether a poll's refusal only says that the task, `age` seconds old, cannot be found yet."""
        return False

    def is_gone(self, error: NetError) -> bool:
        """Whether a poll's refusal says that the gateway does not know the task, or has no result of it any more."""
        return error.http in (404, 410)

    def call_factor(self, header: Callable[[str], str | None]) -> Decimal | int | None:  # noqa: ARG002  # as `duplicate`
        """What a price per call is multiplied with for a video, by the headers of its submit's answer; None if that
        is not known."""
        return 1

    def bill(self, task_id: str) -> Request | None:  # noqa: ARG002  # for dialects that have one
        """Where a finished video's charge is told, if its own answer does not; None if nowhere."""
        return None

    def task(self, document: Mapping[str, Any]) -> Task:
        """What an answer says of a task."""
        task = Task(document)
        if task.done:
            self._finish(task)
        return task

    def _finish(self, task: Task) -> None:
        """Fill in where a finished video is."""
        task.url, task.keyed = self.content(text_of(task.document.get("id")) or ""), True
        task.facts = {"resolution": task.document.get("size"), "duration": task.document.get("seconds")}

    def content(self, task_id: str) -> str:
        """The address of a video's bytes at this gateway, which needs the key."""
        return f"{self.root}/v1/videos/{segment(task_id)}/content"


def refuse_options(
    *options: tuple[str, object],
    why: str = "has no field at this gateway",
    hint: str = "-p KEY=VALUE sends any field of its API",
) -> None:
    """Raise `UsageError` for the first option that was given."""
    for name, value in options:
        if value is not None:
            raise UsageError(f"{name} {why}", hint=hint)


def address(source: str | Upload) -> str:
    """A URL as it is, a local file as a data URL."""
    return source if isinstance(source, str) else source.data_url()
