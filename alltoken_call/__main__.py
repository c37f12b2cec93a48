"""The door: python3 -m alltoken_call, python3 path/to/alltoken_call, and the console script come in here.

Nothing is imported from the working directory, whatever lies there, and nothing before --version is answered.
"""

import os
import sys

_HOME = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))


def _clean_path() -> None:
    """Put the package's parent where Python has put the working directory (-m) or the package itself (a directory).

    There `errors` or `config` would shadow anyone's, and a stranger's sqlite3.py would run with our key.
    """
    if not __package__ or not (getattr(sys.flags, "safe_path", False) or sys.flags.isolated):
        sys.path[0] = _HOME


def entry() -> None:
    """Run the command line and end the process; a zip file's door would not pass a status on."""
    sys.exit(_status())


def _status() -> int:
    if sys.argv[1:] == ["--version"]:
        from alltoken_call import __version__

        try:
            os.write(1, f"alltoken-call {__version__}\n".encode())
            return 0
        except OSError:  # told below
            pass
    try:
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
    _clean_path()
    entry()
