"""Which files are meant, and what their outputs are called."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ramedge.errors import InputError, OutputError, UsageError
from ramedge.files import PARTIAL_SUFFIX
from ramedge.media.image_writer import WRITABLE_SUFFIXES
from ramedge.media.images import READABLE_SUFFIXES, is_image_name
from ramedge.media.video import VIDEO_SUFFIXES, output_suffix

Existing = Literal["refuse", "overwrite", "skip"]
"""What happens to an output that exists already."""

_OTHER_PICTURES = frozenset(
    {".gif", ".avif", ".heic", ".heif", ".jxl", ".jp2", ".ppm", ".pgm", ".ico", ".psd", ".svg"}
    | {".pdf", ".exr", ".hdr", ".tga", ".dng"}
)
"""Pictures that are not read, said at once instead of being tried as a video."""
_WILDCARDS = frozenset("*?[")


_SIGNATURES = (b"\x89PNG", b"\xff\xd8\xff", b"II*\0", b"MM\0*", b"BM")


@dataclass(frozen=True, slots=True)
class Job:
    """One file to upscale and where the result goes."""

    source: Path
    target: Path

    @property
    def is_image(self) -> bool:
        """An image by its name or, where that says nothing, by its first bytes."""
        return is_image_name(self.source) or _looks_like_image(self.source)


def expand(inputs: Sequence[str], made_by: str) -> tuple[list[Path], dict[str, InputError]]:
    """The files that inputs mean, and why some mean none.

    An input is a file, a folder (the images and videos directly in it) or a glob.

    In folders, files whose name ends with `made_by` are left out: they are results.
    """
    files: list[Path] = []
    failures: dict[str, InputError] = {}
    for text in inputs:
        try:
            files += _expand_one(text, made_by)
        except InputError as failure:
            failures[text] = failure
        except OSError as error:
            failures[text] = InputError(f"Cannot read {text}: {error.strerror}.")
    return list(dict.fromkeys(files)), failures


def _expand_one(text: str, made_by: str) -> list[Path]:
    if not text:
        raise InputError("An input is empty: give the name of a file, a folder or a glob.")
    path = Path(text)
    if path.is_dir():
        found = [p for p in sorted(path.iterdir()) if _is_media(p, made_by)]
        if not found:
            raise InputError(f"The folder {path} holds no image or video.")
        return found
    if not path.exists() and _WILDCARDS & set(text):
        return _glob(text, made_by)
    return [_single(text, path)]


def _looks_like_image(path: Path) -> bool:
    if path.suffix.lower() in VIDEO_SUFFIXES:
        return False
    try:
        with path.open("rb") as opened:
            return opened.read(16).startswith(_SIGNATURES)
    except OSError:
        return False


def _single(text: str, path: Path) -> Path:
    if path.exists():
        if path.suffix.lower() in _OTHER_PICTURES:
            raise InputError(
                f"{path}: {path.suffix} pictures are not read; convert it to PNG, JPEG, WebP, "
                "TIFF or BMP first."
            )
        return path
    if "://" in text or text.startswith(("concat:", "pipe:", "data:")):
        raise InputError(f"{text} is not a file: only local files are opened, download it first.")
    raise InputError(f"No such file: {text}")


def _glob(pattern: str, made_by: str) -> list[Path]:
    path = Path(pattern)
    base = Path(path.anchor) if path.is_absolute() else Path()
    relative = str(path.relative_to(path.anchor)) if path.is_absolute() else pattern
    try:
        found = sorted(p for p in base.glob(relative) if _is_media(p, made_by))
    except (ValueError, NotImplementedError):
        found = []
    if not found:
        raise InputError(f"No image or video matches {pattern}")
    return found


def _is_media(path: Path, made_by: str) -> bool:
    suffix = path.suffix.lower()
    known = suffix in READABLE_SUFFIXES or suffix in VIDEO_SUFFIXES
    hidden = path.name.startswith(".") or suffix == PARTIAL_SUFFIX
    return known and not hidden and not path.stem.endswith(made_by) and path.is_file()


def plan(
    sources: Sequence[Path], output: Path | None, made_by: str, existing: Existing
) -> tuple[list[Job], list[Path]]:
    """Pair every source with its target; also returns the sources skipped.

    Without `output` the result stands beside its source as `<stem><made_by><suffix>`; an
    `output` with a suffix is the file of the only source, any other a folder.

    Raises:
        UsageError: several sources for one file, a target that is its own source, or one that
            exists (with `refuse`).
        OutputError: a target is something other than a plain file.
    """
    as_file = output is not None and not output.is_dir() and output.suffix != ""
    if as_file and len(sources) > 1:
        raise UsageError(f"{len(sources)} inputs cannot all become {output}: give -o a folder.")
    if output is not None and not as_file and output.exists() and not output.is_dir():
        raise OutputError(f"{output} is not a folder, and has no suffix such as .png or .mp4.")
    jobs: list[Job] = []
    skipped: list[Path] = []
    taken: dict[Path, Path] = {}
    for source in sources:
        if as_file and output is not None:
            target = output
        else:
            folder = source.parent if output is None else output
            target = folder / f"{source.stem}{made_by}{_suffix(source)}"
        if target in taken:
            raise UsageError(f"{taken[target]} and {source} would both become {target}.")
        taken[target] = source
        if _may_write(source, target, existing):
            jobs.append(Job(source, target))
        else:
            skipped.append(source)
    return jobs, skipped


def _suffix(source: Path) -> str:
    if not Job(source, source).is_image:
        return output_suffix(source)
    return source.suffix if source.suffix.lower() in WRITABLE_SUFFIXES else ".png"


def _may_write(source: Path, target: Path, existing: Existing) -> bool:
    if not target.exists():
        return True
    if source.exists() and target.samefile(source):
        raise UsageError(f"The output {target} is the input itself: choose another with -o.")
    if not target.is_file():
        raise OutputError(f"{target} is not a plain file: choose another output with -o.")
    if existing == "refuse":
        raise UsageError(f"{target} exists: overwrite it with -y, skip it with -n.")
    return existing == "overwrite"
