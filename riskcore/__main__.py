"""Entry point of ``riskcore`` and ``python -m riskcore``."""

import sys


def main() -> None:
    """Run the command line, or say which extra it needs."""
    try:
        from riskcore.cli import app
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in {"typer", "rich"}:
            raise
        sys.exit(f'riskcore: the command line needs {error.name}: pip install "riskcore[cli]"')
    app()


if __name__ == "__main__":
    main()
