"""One-shot calls to every model behind the AllToken gateway."""

__version__ = "0.1.0"
