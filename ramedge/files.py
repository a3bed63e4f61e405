"""Writing files so that nothing half-written ever stands under a final name."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from safetensors import SafetensorError

from ramedge.errors import OutputError

PARTIAL_SUFFIX = ".partial"


def partial_path(path: Path) -> Path:
    """Where a file is written before it is complete: beside it, `.<process>.partial` added.

    The process number keeps two runs with the same target from writing into one file.
    """
    return path.with_name(f"{path.name}.{os.getpid()}{PARTIAL_SUFFIX}")


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield the partial path to write to; on success sync it and rename it to `path`.

    On any failure, Ctrl-C included, the partial file is removed and what stood under
    `path` before is untouched.

    Raises:
        OutputError: the file cannot be written or renamed.
    """
    partial = partial_path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.touch()
        mode = partial.stat().st_mode
        yield partial
        # Some writers (safetensors) create a new file, readable by its owner only.
        partial.chmod(mode)
        with partial.open("rb+") as written:
            os.fsync(written.fileno())
        partial.replace(path)
    except OSError as error:
        raise OutputError(f"Cannot write {path}: {error.strerror or error}.") from None
    except SafetensorError as error:  # how safetensors says that the disk is full
        raise OutputError(f"Cannot write {path}: {error}.") from None
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()


def check_writable(path: Path) -> None:
    """Refuse, before any work, a file that could not be written. Nothing is made.

    Raises:
        OutputError: its folder is a file, or may not be written to.
    """
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    if not folder.is_dir():
        raise OutputError(f"Cannot write {path}: {folder} is a file. Choose another with -o.")
    if not os.access(folder, os.W_OK):
        raise OutputError(
            f"Cannot write {path}: {folder} may not be written to. Choose another with -o."
        )


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file atomically.

    Raises:
        OutputError: the file cannot be written.
    """
    with atomic_path(path) as partial:
        partial.write_text(text, encoding="utf-8")


def file_digest(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as opened:
        while chunk := opened.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
