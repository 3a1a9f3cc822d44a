"""Entry point of ``riskcore`` and ``python -m riskcore``."""

import sys
import warnings


def main() -> None:
    """Run the command line, or say which extra it needs."""
    try:
        from .cli import app
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in {"typer", "rich"}:
            raise
        sys.exit(f'riskcore: the command line needs {error.name}: pip install "riskcore[cli]"')
    warnings.showwarning = lambda message, *_: _say(message)
    app()


def _say(line: object) -> None:
    sys.stderr.write(f"riskcore: {line}\n")


if __name__ == "__main__":
    main()
