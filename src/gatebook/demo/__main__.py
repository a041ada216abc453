"""`python -m gatebook.demo`: tells the story. With `worker`, it is one of the story's processes."""

import argparse
import asyncio
import shutil
import sys
from pathlib import Path

from gatebook import GatebookError
from gatebook.demo.stage import StageError
from gatebook.demo.story import tell
from gatebook.demo.worker import work

MARK = "DEMO"  # a file that says: this folder is a demo's, and may be deleted


def main(argv: list[str] | None = None) -> int:
    """Run the demo and return the exit code: 0 when every check holds."""
    args = _parser().parse_args(argv)
    try:
        if args.role == "worker":
            asyncio.run(work(args.folder, args.model, morning=args.morning))
            return 0
        _clear(args.folder)
        return asyncio.run(tell(args.folder, args.model))
    except (GatebookError, StageError) as exc:
        print(f"error: {exc}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m gatebook.demo",
        description="A support desk whose worker is killed while payments are in flight.",
    )
    add = parser.add_argument
    models = "scripted: answers from a file (default); local: a small model on this machine"
    files = "where journal, ledger and outbox are written (default: demo-run)"
    morning = "worker: only the jobs before the kill, with the calls that are held for it"
    add("role", nargs="?", choices=["story", "worker"], default="story", help="leave it out")
    add("--model", choices=["scripted", "local"], default="scripted", help=models)
    add("--folder", type=Path, default=Path("demo-run"), help=files)
    add("--morning", action="store_true", help=morning)
    return parser


def _clear(folder: Path) -> None:
    """Make the folder empty: an earlier demo is deleted, anything else is left and refused."""
    if folder.exists() and any(folder.iterdir()) and not (folder / MARK).exists():
        sys.exit(f"{folder} holds files that are not a demo's; choose another --folder")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / MARK).write_text("Written by python -m gatebook.demo; the next demo deletes this.\n")


if __name__ == "__main__":
    sys.exit(main())
