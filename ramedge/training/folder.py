"""The folder of a run: locked by one run at a time, outside the photos, tidy after a crash."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from filelock import FileLock, Timeout

from ramedge.errors import OutputError, TrainingError, UsageError
from ramedge.files import PARTIAL_SUFFIX

LOCK_NAME = ".lock"


@contextlib.contextmanager
def claim(folder: Path, files: Sequence[str]) -> Iterator[None]:
    """Create and lock the folder of a run until the block ends.

    Partial files of a killed run are removed if they match `files` (patterns of names); all others
    are kept. A folder that was created and is still empty at the end is removed, and so are its
    parents that were created for it.

    Raises:
        UsageError: there is a file of that name.
        OutputError: it cannot be created or written to.
        TrainingError: another process trains in it.
    """
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file: choose a folder with -o.")
    path = folder.absolute()
    created = [each for each in (path, *path.parents) if not each.exists()]
    lock = FileLock(path / LOCK_NAME)
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout:
        raise TrainingError(
            f"Another training runs in {folder}: wait for it or choose another folder with -o."
        ) from None
    except OSError as error:
        _remove_empty(created)
        reason = error.strerror or error
        raise OutputError(
            f"Cannot write to {folder}: {reason}. Choose another folder with -o."
        ) from None
    try:
        for name in files:
            for left in path.glob(f"{name}.*{PARTIAL_SUFFIX}"):
                left.unlink(missing_ok=True)
        yield
    finally:
        (path / LOCK_NAME).unlink(missing_ok=True)
        lock.release()
        _remove_empty(created)


def check_apart(data: Path, output: Path) -> None:
    """Refuse a run's folder inside the folder of photos: its pictures would be read as photos.

    Raises:
        UsageError: the folder of the run is the folder of photos or inside it.
    """
    if output.resolve().is_relative_to(data.resolve()):
        raise UsageError(
            f"{output} lies in the folder of photos, where a run's pictures would be read as "
            "photos: choose another folder with -o."
        )


def _remove_empty(folders: list[Path]) -> None:
    with contextlib.suppress(OSError):
        for folder in folders:
            folder.rmdir()
