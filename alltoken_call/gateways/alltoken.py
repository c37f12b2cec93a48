"""The AllToken gateway: its paths, fields, status words, error slugs, catalog and cost comment.

What is known of it, and how surely, is said where a fact is used; where its documents differ, both readings work.
"""

from __future__ import annotations

import re

from ..errors import ExitStatus, NetError, UsageError
from ..request import POLLING, Repeat, Request, Upload
from ..values import UNKNOWN, Clip
from ..wire import objects_in, segment, text_of
from .figures import dollars, is_zero
from .openai import ONE_ATTEMPT, OpenAI, refuse_options
from .task import Task, is_task_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from ..values import Cost, Film, Picture
    from .prices import Prices

_IMAGES = "/v1/images/generations"
_VIDEOS = "/v1/videos/generations"
_LISTS = {"chat": "/v1/models", "image": "/v1/images/models", "video": "/v1/videos/models"}
_CATALOG = "/api-account/models"
_PAGES = {"health": "health/summary", "providers": "providers", "rankings": "rankings/all"}
_ENDINGS = {".mp4": "video", ".mov": "video", ".webm": "video", ".mp3": "audio", ".wav": "audio", ".m4a": "audio"}
_INPUT, _OUTPUT = ("input_price", "prompt_price"), ("output_price", "completion_price")
ONE_KEY = Repeat(
    429, 503, lost=True, bare=range(500, 600), latest=50.0
)  # all attempts fall into the gateway's 60 s of memory


class AllToken(OpenAI):
    """The AllToken gateway at `root`."""

    name = "alltoken"
    at_once = False
    page_is_a_wrong_root = False  # a submit whose answer was lost is repeated with its key, or looked for
    lifetime = 1800.0
    pauses = {"image": 2.0, "video": 3.0}  # noqa: RUF012
    doubt = "look at the usage page, or for a video at `alltoken-call video --list`, before you run it again"
    hints = OpenAI.hints | {  # type: ignore[operator]  # both are dicts
        ExitStatus.KEY: "check ALLTOKEN_API_KEY: the gateway does not accept this key",
        ExitStatus.CREDIT: "top up in Settings → Billing, then run the command again",
    }
    slugs = {  # noqa: RUF012
        "insufficient_balance": 402,
        "invalid_api_key": 401,
        "invalid_token": 401,
        "invalid_request": 400,
        "upstream_invalid_parameter": 400,
        "upstream_content_violation": 400,
        "upstream_model_not_found": 404,
        "upstream_error": 502,
        "all_providers_failed": 503,
    }
    types = OpenAI.types | {"billing_error": 402}  # type: ignore[operator]  # both are dicts
    # Families that honour enable_search, and the models of which that was seen; other families ignore it in silence.
    searching = ("deepseek", "qwen")
    verified = (
        "deepseek-v4-pro",
        "deepseek-v3.2",
        "qwen3.6-flash",
        "qwen3.6-max-preview",
        "qwen3.6-plus",
        "qwen3.6-27b",
    )

    def refusal(self, document: Mapping[str, Any], http: int, **about: Any) -> NetError:
        """As the general one; if all providers have failed, the same request is not repeated."""
        error = super().refusal(document, http, **about)
        return error.but(passing=False) if self.fails_everywhere(error.code) else error

    def comment_cost(self, figures: Mapping[str, Any], usage: Mapping[str, Any] | None) -> Cost | None:
        """The comment after [DONE]: `cost` is in dollars, and authoritative; its prices are per 1M tokens. 0 is the
        cost only if its prices are 0, too, or if no tokens were used."""
        cost = dollars(figures.get("cost"))
        if cost is None or not is_zero(cost):
            return cost
        given = [dollars(figures.get(name)) for name in ("input_price", "output_price")]
        free = all(price is not None and is_zero(price) for price in given)
        own = {name: figures.get(name) for name in ("prompt_tokens", "completion_tokens")}
        counts = [count for block in (own, usage or {}) for count in block.values() if type(count) is int]
        return cost if free or (counts and max(counts) <= 0) else UNKNOWN

    def thinking(self, budget: int) -> dict[str, Any]:
        """AllToken's own fields; with a budget of 0 no limit is sent."""
        return {"thinking": True} | ({"thinking_budget": budget} if budget else {})

    def search(self) -> dict[str, Any]:
        """AllToken's own field."""
        return {"enable_search": True}

    def without_refused(self, body: Mapping[str, Any], error: NetError) -> None:
        """None: AllToken takes every field that we send."""

    # Models and prices

    def model_lists(self, kind: str) -> list[Request]:
        """The lists to ask for models of a kind: chat, image, video or all."""
        kinds = _LISTS if kind == "all" else [kind]
        return [Request("GET", self.root + _LISTS[one]) for one in kinds]

    def price_list(self) -> Request:
        """The public catalog; the key is never sent there."""
        return Request("GET", self.root + _CATALOG, keyed=False)

    def price_entry(self, model: str) -> Request:
        """The catalog's entry of one model."""
        return Request("GET", f"{self.root}{_CATALOG}/{segment(model)}", keyed=False)

    def page(self, name: str) -> Request:
        """A public page: health, providers or rankings; the key is never sent there."""
        return Request("GET", f"{self.root}/api-account/{_PAGES[name]}", keyed=False)

    def is_of(self, entry: Mapping[str, Any], kind: str, request: Request) -> bool:
        """Whether an entry of the list that `request` asked for is of a kind; one that does not say what it is counts
        as what its list is for."""
        modality = (text_of(entry.get("modality")) or "").lower()
        if not modality:  # the catalog, like the first list, is for chat
            modality = next((name for name, path in _LISTS.items() if request.url.endswith(path)), "chat")
        return kind in ("all", modality) or (kind == "chat" and modality in ("text", "vision"))

    def prices(self, entry: Mapping[str, Any]) -> Prices:
        """Input and output price in dollars per 1M tokens. The field names have changed over time."""
        from . import prices

        inner = [value for name in ("pricing", "data") if isinstance(value := entry.get(name), dict)]
        spots = [entry, *inner, *(value for place in inner if isinstance(value := place.get("pricing"), dict))]
        return prices.Prices(prices.first(spots, _INPUT), prices.first(spots, _OUTPUT))

    # Tasks

    def image(self, picture: Picture, *, key: str = "", uploads: Mapping[str, str] | None = None) -> Request:
        """Submit an image. With one Idempotency-Key (`key`), repeats within 60 s are answered with the first task."""
        refuse_options(("--ratio", picture.ratio), ("--via", picture.via), ("--system", picture.system))
        if len(picture.edit) > 1:
            raise UsageError("AllToken edits one image at a time: give --edit once")
        fields: dict[str, Any] = {"model": picture.model, "prompt": picture.prompt}
        fields |= {"size": picture.size or "1024x1024", "quality": picture.quality or "low"}
        form = picture.format or picture.ending
        given = {"output_format": form, "background": picture.background, "n": picture.count}
        fields |= {name: value for name, value in given.items() if value is not None} | picture.params
        path = "/v1/images/edits" if picture.edit else f"{_IMAGES}/async"
        return Request(
            "POST",
            self.root + path,
            body=fields | dict(uploads or {}),
            headers={"Idempotency-Key": key},
            repeat=ONE_KEY,
            silence=20.0,
        )

    def image_uploads(self, picture: Picture) -> list[tuple[str, str, Upload]]:
        """The image to edit, and its mask."""
        found = [("image_upload_id", "image_edit_source", upload) for upload in picture.edit]
        return found + ([("mask_upload_id", "image_edit_mask", picture.mask)] if picture.mask else [])

    def video(self, film: Film, uploads: Mapping[str, str] | None = None) -> Request:
        """Submit a video. There is no idempotency: it is never repeated if its outcome is unknown."""
        body: dict[str, Any] = {"model": film.model, "prompt": film.prompt}
        body["duration"] = 5 if film.duration is None else film.duration
        body |= {"ratio": film.ratio or "16:9", "resolution": film.resolution or "480p"}
        given = {"generate_audio": film.audio, "seed": film.seed}
        body |= {name: value for name, value in given.items() if value is not None} | film.params
        parts = [self._part(name, source, uploads or {}) for name, source in _sources(film)]
        if parts:
            if not isinstance(body.get("content", []), list):
                raise UsageError("-p content is not a list: the frames and references have no place in it")
            body["content"] = [*body.get("content", []), *parts]
        return Request("POST", self.root + _VIDEOS, body=body, repeat=ONE_ATTEMPT)

    def video_uploads(self, film: Film) -> list[tuple[str, str, Upload]]:
        """The frames and references that are local files."""
        sources = [(name, source) for name, source in _sources(film) if isinstance(source, Upload)]
        return [(name, f"video_input_{source.kind}", source) for name, source in sources]

    @staticmethod
    def _part(name: str, source: str | Upload, uploads: Mapping[str, str]) -> dict[str, Any]:
        if isinstance(source, Upload):
            kind, where = source.kind, {"upload_id": uploads.get(name)}
        else:
            ending = re.search(r"\.[a-z0-9]+$", source.partition("?")[0].lower())
            kind, where = _ENDINGS.get(ending[0] if ending else "", "image"), {"url": source}
        role = name if name in ("first_frame", "last_frame") else f"reference_{kind}"
        return {"type": kind, "role": role, **where}

    def poll(self, command: str, task_id: str, *, grace: float = 0.0) -> Request:
        """Ask for the state of a task of image or video; a completed image comes with it, once."""
        path = _IMAGES if command == "image" else _VIDEOS
        return Request("GET", f"{self.root}{path}/{segment(task_id)}", repeat=POLLING, grace=grace)

    def videos(self) -> Request:
        """The list of video tasks."""
        return Request("GET", f"{self.root}{_VIDEOS}?limit=50")

    def cancel(self, task_id: str) -> Request:
        """Cancel a video task."""
        return Request("POST", f"{self.root}{_VIDEOS}/{segment(task_id)}/cancel", body={})

    def duplicate(self, error: NetError) -> str | None:
        """409 duplicate_request hands over the task."""
        return error.task_id if error.code == "duplicate_request" and is_task_id(error.task_id) else None

    def task(self, document: Mapping[str, Any]) -> Task:
        """What a GET says of a task."""
        task = super().task(document)
        asked = document.get("next_poll_after_ms")
        if isinstance(asked, (int, float)) and asked is not True and asked >= 0:
            task.pause = min(asked, 1e6) / 1000
        return task

    def _finish(self, task: Task) -> None:
        """A video's address is presigned, and lives for a while."""
        found = task.document
        task.url = text_of(found.get("video_url"))
        task.expires_at = text_of(found.get("video_url_expires_at"))
        seconds = found.get("video_url_ttl")
        task.ttl = seconds if type(seconds) is int else None
        task.facts = {name: found.get(name) for name in Clip.FACTS}

    def images(self, document: Mapping[str, Any]) -> list[dict[str, str | None]]:
        """The images of a completed task: bytes in `b64_json`, or an address in `r2_url`."""
        entries = objects_in(document.get("data"))
        return [{"b64_json": text_of(entry.get("b64_json")), "url": text_of(entry.get("r2_url"))} for entry in entries]

    def may_hold_images(self, document: Mapping[str, Any]) -> bool:
        """Whether an answer may be the one that brings the images, whatever it calls its status."""
        return self.task(document).done or "data" in document

    # Uploads

    def presign(self, body: Mapping[str, Any]) -> Request:
        """Ask for an address to upload to."""
        return Request("POST", f"{self.root}/v1/uploads/presign", body=body)


def _sources(film: Film) -> list[tuple[str, str | Upload]]:
    """Frames and references, each under a name that is its own."""
    frames = [("first_frame", film.first_frame), ("last_frame", film.last_frame)]
    found = [(name, source) for name, source in frames if source is not None]
    return found + [(f"reference_{number}", source) for number, source in enumerate(film.references)]
