"""The door: python3 -m alltoken_call, python3 path/to/alltoken_call, and the console script come in here.

The standard library goes before everything else, for the whole life of the process; nothing is imported from the
working directory, nor from what lies beside this package; and nothing at all before --version is answered.
"""

import gc
import os
import sys

_PACKAGE = os.path.dirname(os.path.realpath(__file__))


def _leave_folder() -> None:
    """Take off the path what Python has put there: the working directory (-m), or this package's own folder.

    There `errors` or `config` would shadow anyone's, and a stranger's sqlite3.py would run with our key. The package's
    parent is on the path only while the package itself is found: its modules are found through it, not through the
    path, and so are those of no other alltoken_call that is installed.
    """
    if __package__ == "" or not (getattr(sys.flags, "safe_path", False) or sys.flags.isolated):
        del sys.path[0]
    if not __package__:
        path, sys.path[:] = sys.path[:], [os.path.dirname(_PACKAGE)]
        import alltoken_call  # noqa: F401

        sys.path[:] = path


def _standard_first() -> None:
    """Put the standard library before all else: PYTHONPATH, or a console script's folder, may hold an argparse.py."""
    standard = os.path.dirname(os.__file__)

    def is_foreign(path: str) -> bool:
        inside = path == standard or path.startswith(standard + os.sep)
        return not inside or "-packages" in path[len(standard) :]

    sys.path.sort(key=is_foreign)


def entry() -> None:
    """Run the command line and end the process.

    At once, behind flushed streams: the interpreter's teardown is 6 to 8 ms of a short chat, and a thread that still
    waits for a name server could crash it (3.13).
    """
    if sys.version_info < (3, 10):  # noqa: UP036  # a copied folder or zip file has no installer that looks
        sys.stderr.write("alltoken-call needs Python 3.10 or later; this is %d.%d\n" % sys.version_info[:2])  # noqa: UP031
        sys.exit(2)
    gc.set_threshold(100_000)  # a short run makes no garbage worth a tenth of its time
    _standard_first()
    status = _status()
    for stream in (sys.stdout, sys.stderr):
        try:  # noqa: SIM105  # importing contextlib costs time
            stream.flush()
        except (AttributeError, OSError, ValueError):  # None if it was closed
            pass
    os._exit(status)


def _text(argv: "list[str]") -> "str | None":
    """What can be told at once, without signals and environment: the version, a command's help."""
    if argv == ["--version"]:
        from alltoken_call import __version__

        return f"alltoken-call {__version__}\n"
    if len(argv) == 2 and argv[1] in ("--help", "-h"):
        from alltoken_call.cli.parser import COMMANDS, command_parser

        return command_parser(argv[0]).format_help() if argv[0] in COMMANDS else None
    return None


def _status() -> int:
    try:
        text = _text(sys.argv[1:])
        # What does not block may take a part, and Windows' terminals take no UTF-8.
        if text is not None and getattr(sys.stdout, "encoding", None) == "utf-8" and os.name == "posix":
            data = text.encode()
            try:
                if os.get_blocking(1) and os.write(1, data) == len(data):
                    return 0
            except OSError:  # told below
                pass
        from alltoken_call.errors import Interrupted

        try:
            from alltoken_call.cli.context import Context
            from alltoken_call.cli.main import main

            context = Context.of_process()
            context.signals.install()
            try:
                return main(sys.argv[1:], context)
            finally:
                context.signals.release()
        except Interrupted as signal:
            return signal.status
    except KeyboardInterrupt:  # before the signals were ours
        return 130


if __name__ == "__main__":
    _leave_folder()
    entry()
