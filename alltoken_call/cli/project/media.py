"""Make an image or a video: `python3 media.py "a lighthouse in fog" lighthouse.png`; a name in .mp4 is a video.

An interrupted run is not lost: `alltoken-call image --resume` (or `video --resume`) goes on with it.
"""

from __future__ import annotations

import sys

from alltoken_call import CallError, generate_image, generate_video


def draw(subject: str) -> str:
    """Draw a picture, and tell the name of its file."""
    return generate_image(subject)[0]  # a tool, too: add it to TOOLS in tools.py, and the model may spend money on it


def make(prompt: str, path: str) -> str:
    """Make an image or a video at `path`, which must not exist; the path."""
    if path.endswith(".mp4"):
        return generate_video(prompt, path, on_status=tell)
    return generate_image(prompt, path, on_status=tell)[0]


def tell(status: str) -> None:
    """Print the task's status, each time that it changes."""
    print(status, file=sys.stderr)


def main() -> None:
    """Make what the command line asks for, and print its path."""
    if len(sys.argv) != 3:
        sys.exit('usage: python3 media.py "what to draw" FILE.png|FILE.mp4')
    try:
        print(make(sys.argv[1], sys.argv[2]))
    except CallError as error:
        sys.exit(f"{error.code}: {error.message}")


if __name__ == "__main__":
    main()
