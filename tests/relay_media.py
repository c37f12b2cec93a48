"""What the loopback relay sells: its models, images in chats and at once, edits, videos, and the CDN with the results.

tests/relay.py has the server; each function here answers one kind of request.
"""

from __future__ import annotations

import base64
import binascii
import functools
import json
import math
import re
import time
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

from .gateway import png

if TYPE_CHECKING:
    from .relay import Call, Relay


class Model(NamedTuple):
    """What a model makes (text; image in a chat; image; video) and its dollars: per 1M tokens in and out, or per call,
    or per second where there is a price for 1080P, too."""

    kind: str
    prices: tuple[str, ...]
    high: str | None = None


MODELS = {
    "new-api": {
        "claude-opus-4-7": Model("text", ("0.90", "4.50")),
        "claude-sonnet-4-6": Model("text", ("0.52", "2.60")),
        "claude-haiku-4-5-20251001": Model("text", ("0.18", "0.90")),
        "gpt5.4-plus": Model("text", ("0.50", "4.00")),
        "gpt-5.4-mini-plus": Model("text", ("0.10", "0.80")),
        "gemini-3-flash-preview": Model("text", ("0.40", "2.40")),
        "unpriced-model": Model("text", ()),
        "gemini-3.1-flash-image": Model("chat", ("0.05",)),
        "gemini-3.1-flash-image-preview": Model("chat", ("0.25", "40.00")),
        "wan2.7-image": Model("chat", ("0.027",)),
        "gpt-image-1.5-vvip": Model("image", ("5", "32")),
        "gpt-image-1-vvip": Model("image", ("5", "40")),
        "gpt-image-2": Model("image", ("0.01",)),
        "wan2.6-t2i": Model("image", ("0.02",)),
        "doubao-seedream-5-0-260128": Model("image", ("0.04",)),
        "doubao-seedream-4-5-251128": Model("image", ("0.04",)),
        "wan2.6-t2v": Model("video", ("0.058",), "0.100"),
        "wan2.6-i2v": Model("video", ("0.058",), "0.100"),
        "wan2.6-i2v-flash": Model("video", ("0.0145",), "0.024"),
        "wan2.5-t2v-preview": Model("video", ("0.04",)),
        "wan2.5-i2v-preview": Model("video", ("0.04",)),
        "wan2.2-t2v-plus": Model("video", ("0.02",)),
        "wan2.2-i2v-plus": Model("video", ("0.02",)),
        "wan2.2-i2v-flash": Model("video", ("0.02",)),
    },
    "openai": {
        "gpt-5.4-mini": Model("text", ("0.20", "1.25")),
        "gpt-image-1": Model("image", ("5", "40")),
        "dall-e-3": Model("image", ("0.04",)),
        "sora-2": Model("video", ("0.10",)),
    },
    "openrouter": {
        "openai/gpt-5.4-mini": Model("text", ("0.20", "1.25")),
        "google/gemini-3.1-flash-image": Model("chat", ("0.25", "40")),
    },
}
MODELS["litellm"] = MODELS["openai"] | {"gemini/gemini-3.1-flash-image": Model("chat", ("0.25", "40"))}
SERVER = "https://relay.invalid"  # what the operator wrongly calls the relay
SHAPES = {"1:1": (1024, 1024), "16:9": (1408, 768), "9:16": (768, 1408), "4:3": (1152, 896), "3:4": (896, 1152)}
SCALES = {"512": 0.5, "1K": 1, "2K": 2, "4K": 4}
RATIOS = {*SHAPES, "3:2", "2:3", "4:5", "5:4", "1:4", "4:1", "1:8", "8:1", "21:9"}
WAN_SIZES = ("1280*1280", "1472*1104", "1104*1472", "1696*960", "960*1696")
OUTPUT_TOKENS = {"low": 272, "medium": 1056, "high": 4160, "auto": 1056}
STOCK_IMAGE = set(
    "model prompt n size quality response_format background output_format output_compression moderation style user"
    " watermark image".split()
)
STOCK_VIDEO = set("model prompt image images size duration seconds mode input_reference metadata".split())
MAGIC = {"png": b"\x89PNG", "jpg": b"\xff\xd8\xff", "jpeg": b"\xff\xd8\xff", "webp": b"RIFF"}
JPEG = base64.b64decode(
    "/9j/4AAQSkZJRgABAQEASABIAAD/2wBDAP" + "/" * 86 + "wgALCAABAAEBAREA/8QAFBABAAAAAAAAAAAAAAAAAAAAAP/aAAgBAQABPxA="
)
WEBP = base64.b64decode("UklGRiIAAABXRUJQVlA4IBYAAAAwAQCdASoBAAEADsD+JaQAA3AAAAAA")
_png = functools.lru_cache(png)


def parts(message: dict[str, Any]) -> list[dict[str, Any]]:
    """A message's content as parts."""
    content = message.get("content") or []
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def paint(call: Call) -> tuple[list[str], int, dict[str, Any]] | None:
    """An image in a chat: pieces of text, completion tokens, other fields of the message. None: it was refused."""
    relay, body, new = call.gateway, call.json, call.gateway.dialect == "new-api"
    name, messages = body["model"], body["messages"]
    from_user = [message for message in messages if message.get("role") == "user"]
    given = [part["image_url"]["url"] for one in from_user for part in parts(one) if part.get("type") == "image_url"]
    try:
        references = [_reference(url) for url in given]
    except binascii.Error:
        return call.fail(400, "invalid_argument", "image_url: not base64")
    place = body.get("extra_body") or {} if new and relay.stock else body
    config = (place.get("google") or {} if new else place).get("image_config") or {}
    size, ratio = str(config.get("image_size", "1K")), config.get("aspect_ratio", "1:1")
    asked = {"via": "chat", "model": name, "prompt": "".join(part.get("text", "") for part in parts(messages[-1]))}
    asked["system"] = [message["content"] for message in messages if message.get("role") == "system"]
    relay.images.append(asked | {"config": config, "references": references, "messages": messages, "body": body})
    wan = name.startswith("wan")
    if wan and not all(isinstance(message["content"], list) for message in from_user):
        return call.fail(400, "invalid_parameter", "content must be a list of parts")
    if size not in SCALES or ratio not in RATIOS or len(references) > 14:
        return call.fail(400, "invalid_argument", f"image_size {size}, aspect_ratio {ratio}, {len(references)} images")
    if relay.stopping.wait(relay.work):
        return None
    data = _picture(relay, *_pixels(size, ratio))
    inline = f"data:image/{_ending(data)};base64,{base64.b64encode(data).decode()}"
    if wan:
        return [], 10080, {"content": [{"image": relay.publish(data, "png")} for _ in range(4)]}
    if new and not relay.stock and not name.endswith("-preview"):
        return [f"![image]({relay.publish(data, 'png')})"], 2520, {}
    if new:
        return ["Here is your image.\n\n", f"![image]({inline})"], 2520, {}
    if relay.dialect == "openrouter" and "image" not in body.get("modalities", ()):
        return ["Here ", "is no image."], 4, {}
    return ["Here ", "it is."], 2520, {"images": [{"type": "image_url", "image_url": {"url": inline}}]}


def _picture(relay: Relay, width: int, height: int, ending: str = "png") -> bytes:
    return relay.image or {"jpeg": JPEG, "webp": WEBP}.get(ending) or _png(width, height)


def _reference(url: str) -> tuple[str, bytes] | str:
    match = re.fullmatch(r"data:([^;,]+);base64,(.*)", url, re.DOTALL)
    return (match[1], base64.b64decode(match[2], validate=True)) if match else url


def _ending(data: bytes) -> str:
    return next((ending for ending in ("png", "jpeg", "webp") if data.startswith(MAGIC[ending])), "png")


def _pixels(size: str, ratio: str) -> tuple[int, int]:
    scale = SCALES[size]
    across, down = map(int, ratio.split(":"))
    side = math.sqrt(across / down) * 16
    width, height = SHAPES.get(ratio) or (round(side) * 64, round(256 / side) * 64)
    return int(width * scale), int(height * scale)


def generate(call: Call) -> None:
    if call.admits("image"):
        _draw(call, [], None)


def edit(call: Call) -> None:
    if not call.admits("image"):
        return
    new = call.gateway.dialect == "new-api"
    files = [part for part in call.form if part[1] is not None]
    plain = [part for part in files if part[0] == "image"]
    images = plain or [part for part in files if part[0] == "image[]"]
    masks = [part for part in files if part[0] == "mask"]
    if not images or len(masks) > 1 or (new and not call.fields["model"].startswith("gpt-")):
        return call.fail(500 if new else 400, "invalid_request", "image: one at least, and one mask at most")
    for _, file, kind, data in images + masks:
        ending = str(file).lower().rpartition(".")[2]
        honest = kind in ("image/png", "image/jpeg", "image/webp")
        if new:  # the type is told from the file's name, and the upstream looks at the bytes
            honest = data.startswith(MAGIC.get(ending, MAGIC["png"]))
        if not honest:
            return call.fail(400, "invalid_image_file", f"Invalid image file or mode for {file} ({kind})")
    _draw(call, images, masks[0] if masks else None)


def _draw(call: Call, references: list[Any], mask: Any) -> None:
    """Images at once."""
    relay, name = call.gateway, call.fields["model"]
    body = {field: value for field, value in call.fields.items() if not relay.stock or field in STOCK_IMAGE}
    wan = name.startswith("wan")
    size, ending = body.get("size", "1280*1280" if wan else "auto"), body.get("output_format", "png")
    count = int(body.get("n") or (4 if wan else 1))
    asked = {"via": "edits" if references else "images", "model": name, "prompt": body["prompt"], "size": size}
    asked |= {"n": count, "references": [part[3] for part in references], "names": [part[1] for part in references]}
    relay.images.append(asked | {"mask": mask and mask[3], "body": body})
    if trouble := _trouble(relay, body, size, count):
        return call.fail(400, "InvalidParameter" if wan else "invalid_value", trouble, "upstream_error")
    if relay.stopping.wait(relay.work):
        return
    width, height = map(int, re.findall(r"\d+", size)) if re.search(r"\d[x*]\d", size) else (1024, 1024)
    data = _picture(relay, width, height, ending)
    inline = body.get("response_format") == "b64_json" or name == "gpt-image-1"
    items = [
        {"url": "", "b64_json": base64.b64encode(data).decode(), "revised_prompt": ""}
        if inline
        else {"url": relay.publish(data, ending), "b64_json": "", "revised_prompt": ""}
        for _ in range(count)
    ]
    if relay.dialect != "new-api":  # where what is unused is not there
        items = [{field: value for field, value in item.items() if value} for item in items]
    document: dict[str, Any] = {"created": int(time.time()), "data": items}
    usage: dict[str, Any] = {}
    if len(relay.models[name].prices) > 1:
        counts = (len(body["prompt"].split()) + 6, OUTPUT_TOKENS[body.get("quality", "auto")] * count)
        usage = {"input_tokens": counts[0], "output_tokens": counts[1], "total_tokens": sum(counts)}
        document["usage"] = usage
    relay.charge(call, name, usage, count)
    cost = float(relay.dollars(name, usage, count))
    call.reply(200, document, {"x-litellm-response-cost": repr(cost)} if relay.dialect == "litellm" else None)


def _trouble(relay: Relay, body: dict[str, Any], size: str, count: int) -> str | None:
    """What an upstream refuses about an image."""
    name = body["model"]
    numbers = [int(number) for number in re.findall(r"\d+", size)]
    if name.startswith("wan"):
        if not re.fullmatch(r"\d+\*\d+", size):
            return f"size must be like 1280*1280, not {size}"
        inside = 1280**2 <= numbers[0] * numbers[1] <= 1440**2 and 1 / 4 <= numbers[0] / numbers[1] <= 4
        return None if (inside or size in WAN_SIZES) and count <= 4 else f"size {size}, n {count}"
    if name.startswith("doubao"):
        return None if re.fullmatch(r"auto|[124]K|\d+x\d+", size) else f"size {size}"
    if name == "gpt-image-1" and "response_format" in body:
        return "Unknown parameter: 'response_format'."
    large = name.startswith("gpt-image-2")
    if size != "auto" and not (re.fullmatch(r"\d+x\d+", size) and all(0 < n <= 3840 for n in numbers)):
        return f"Invalid size '{size}'"
    if large and size != "auto" and (any(n % 16 for n in numbers) or max(numbers) > 3 * min(numbers)):
        return f"Invalid size '{size}'"
    if not large and size not in ("auto", "1024x1024", "1536x1024", "1024x1536"):
        return f"Invalid size '{size}'"
    if body.get("background") == "transparent" and body.get("output_format", "png") == "jpeg":
        return "Transparent background is not supported for jpeg output format"
    known = body.get("quality", "auto") in OUTPUT_TOKENS and body.get("output_format", "png") in MAGIC
    return None if known and 1 <= count <= (1 if large else 10) else "quality, output_format or n"


def submit(call: Call) -> None:
    """Take a video."""
    relay = call.gateway
    if not call.admits("video"):
        return
    new = relay.dialect == "new-api"
    body = {field: value for field, value in call.fields.items() if not (new and relay.stock) or field in STOCK_VIDEO}
    files = {part[0]: part[3] for part in call.form if part[1] is not None}
    name, model = body["model"], relay.models[body["model"]]
    seconds, resolution = body.get("duration") or body.get("seconds") or (5 if new else "4"), body.get("resolution")
    if not new and seconds not in ("4", "8", "12"):
        return call.fail(400, "invalid_value", f"Invalid value: {seconds!r}. seconds is one of '4', '8', '12'.")
    resolution = resolution or ("1080P" if name == "wan2.6-i2v" else "720P")
    frame = body.get("input_reference") or body.get("images") or body.get("image") or "input_reference" in files
    if new and (resolution not in ("720P", "1080P") or not 2 <= int(seconds) <= 15 or ("i2v" in name and not frame)):
        return call.fail(400, "invalid_request", f"resolution {resolution}, duration {seconds}, or no image")
    times = Decimal(int(seconds) if model.high or not new else 1)
    if model.high and resolution == "1080P":
        times *= Decimal(model.high) / Decimal(model.prices[0])
    if name == "wan2.6-i2v-flash" and body.get("audio") in (True, "true"):
        times *= 2
    task = f"task_{call.id}" if new else f"video_{call.id}"
    job = {"id": task, "model": name, "request": body, "files": files, "since": relay.monotonic(), "status": "queued"}
    job |= {"created_at": int(time.time()), "call": call.id, "quota": relay.charge(call, name, times=times)}
    relay.jobs[task] = job
    document = _openai_video(relay, job)
    if not new:
        return call.reply(200, document | {"seconds": seconds, "size": body.get("size", "1280x720")})
    docs = relay.task_shape == "docs"
    others = json.dumps({"seconds": int(seconds), f"resolution-{resolution}": float(times / int(seconds))})
    call.reply(201 if docs else 200, document, {"X-New-Api-Other-Ratios": others})


def _find(call: Call, name: str) -> dict[str, Any] | None:
    """The video, moved on to where it should be by now; answers an error where there is none."""
    relay, job = call.gateway, call.gateway.jobs.get(name)
    gone = relay.monotonic() - job["since"] if job else 0.0
    if job is None or gone < relay.task_lag:
        new = relay.dialect == "new-api"
        call.fail(*((400, "task_not_exist", "task_not_exist") if new else (404, "not_found", "Video not found")))
        return None
    if job["status"] in ("queued", "in_progress"):
        over, begun = gone >= relay.work, gone * 3 > relay.work
        job["status"] = relay.task_end if over else "in_progress" if begun else "queued"
        if job["status"] == "failed":
            relay.record("", job["model"], job["quota"], {}, kind=6, task_id=name, reason="the upstream failed")
            job["quota"] = 0
        elif over and relay.dialect == "new-api" and relay.task_result == "url":
            job["url"] = relay.publish(relay.video, "mp4")
        elif over and relay.task_result == "proxy":
            job["url"] = f"{SERVER}/v1/videos/{name}/content"
    return job


def _openai_video(relay: Relay, job: dict[str, Any]) -> dict[str, Any]:
    """A video as OpenAI's API shows it (A)."""
    status, words = job["status"], {}
    if relay.task_shape == "docs":
        words = {"queued": "processing", "in_progress": "processing", "completed": "succeeded"}
    document = {"id": job["id"], "object": "video", "model": job["model"], "status": words.get(status, status)}
    progress = {"queued": 0, "in_progress": 30, "completed": 100, "failed": 100}
    document |= {"progress": progress.get(status, 0), "created_at": job["created_at"]}
    if relay.dialect == "new-api":
        document["task_id"] = job["id"]
    if status == "failed":
        document["error"] = {"message": "the upstream failed", "code": "upstream_failed"}
        if relay.dialect == "new-api":
            document["metadata"] = {"url": "the upstream failed"}
    elif job.get("url"):
        document["metadata"] = {"url": job["url"]}
    return document


def _task(relay: Relay, job: dict[str, Any], *, vertex: bool) -> dict[str, Any]:
    """A video as new-api's own path shows it (B), also with what its Gemini and Vertex channels put there."""
    status = job["status"]
    failure = "the upstream failed" if status == "failed" else ""
    if vertex:
        word = {"completed": "succeeded", "failed": "failed"}.get(status, "processing")
        data = {"task_id": job["id"], "status": word, "url": job.get("url", ""), "error": failure and {"code": 500}}
        return {"code": "success", "message": "", "data": data}
    words = {"in_progress": ("IN_PROGRESS", "30%"), "completed": ("SUCCESS", "100%"), "failed": ("FAILURE", "100%")}
    word, progress = words.get(status, ("QUEUED", "0%"))
    data = {"task_id": job["id"], "status": word, "progress": progress, "fail_reason": failure}
    data |= {"quota": job["quota"], "group": relay.group, "data": {}}
    return {"code": "success", "message": "", "data": data | ({"result_url": job["url"]} if job.get("url") else {})}


def poll(call: Call, name: str) -> None:
    job = _find(call, name)
    if job is not None:
        own = "B" if call.path.startswith("/v1/video/") else "A"
        shape = call.gateway.task_shape or own
        openai = shape in ("A", "docs")
        relay = call.gateway
        call.reply(200, _openai_video(relay, job) if openai else _task(relay, job, vertex=shape == "vertex"))


def content(call: Call, name: str) -> None:
    job = _find(call, name)
    if job is None:
        return
    if job["status"] != "completed":
        error = {"message": f"the task is {job['status']}", "type": "invalid_request_error"}
        return call.reply(400, {"error": error})
    call.reply(200, call.gateway.video, {"Content-Type": "video/mp4"})


def cdn(call: Call, name: str) -> None:
    """A result's bytes, whole or from a Range on, for a client that keeps its key to itself."""
    data = call.gateway.files.get(name)
    xml = {"Content-Type": "application/xml"}
    if data is None or "Authorization" in call.headers:
        code = b"NoSuchKey" if data is None else b"InvalidArgument"
        return call.reply(404 if data is None else 400, b"<Error><Code>%s</Code></Error>" % code, xml)
    match = re.fullmatch(r"bytes=(\d+)-", call.headers.get("Range", ""))
    start = int(match[1]) if match else 0
    kind = "video/mp4" if name.endswith(".mp4") else f"image/{_ending(data)}"
    headers = {"Content-Type": kind, "ETag": f'"{name}"'}
    if match:
        headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
    call.reply(206 if match else 200, data[start:], headers)
