"""Engines that this user built, in the user's cache, each beside a record of what it is.

A plan is code that the driver runs. So only plans from this folder are loaded, which belongs to
the user alone, and only if their bytes have the hash that was recorded when they were built.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import platformdirs
from filelock import FileLock

from ramedge.errors import OutputError, UsageError, WeightsError
from ramedge.files import atomic_path

FORMAT_VERSION = 1
_PLAN, _RECORD, _TIMING = ".engine", ".json", ".timing"
_NAME_LENGTH = 20


@dataclass(frozen=True, slots=True)
class EngineKey:
    """Everything that can make a plan another one, or useless.

    Attributes:
        network: short name, for the user.
        scale: 2, 3 or 4.
        onnx: SHA-256 of the ONNX file.
        graph: graph kind.
        values: `uint8` or `float32`, what goes in and out.
        precision: `fp32`, `fp16` or `int8`.
        shapes: smallest, best and largest frame, `HxW` each.
        variant: `tensorrt` or `tensorrt-rtx`.
        version: of it.
        gpu: name; `none` where it was built without.
        compute_capability: `9.0`, or `none`.
        driver: version of the driver's CUDA, or `none`.
        options: of the builder.
    """

    network: str
    scale: int
    onnx: str
    graph: str
    values: str
    precision: str
    shapes: tuple[str, str, str]
    variant: str
    version: str
    gpu: str
    compute_capability: str
    driver: str
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """File name without suffix: a short hash of everything."""
        text = json.dumps(asdict(self), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:_NAME_LENGTH]

    @property
    def purpose(self) -> tuple[Any, ...]:
        """What it is for; keys alike in it differ only in how it was built."""
        return (self.network, self.scale, self.graph, self.values, self.precision, self.variant)

    def differences(self, other: EngineKey) -> list[str]:
        """The parts in which `other` differs, each in words."""
        found = []
        for part in fields(self):
            here, there = getattr(self, part.name), getattr(other, part.name)
            label = part.name.replace("_", " ")
            if part.name == "options":
                for name in sorted(here.keys() | there.keys()):
                    if here.get(name) != there.get(name):
                        found.append(f"{name} {there.get(name)} → {here.get(name)}")
            elif here != there:
                found.append(f"{label} {_short(there)} → {_short(here)}")
        return found


@dataclass(frozen=True, slots=True)
class Record:
    """The sidecar of a plan.

    Attributes:
        key: what the plan was built from, by what and for what.
        sha256: of the plan.
        size: of the plan, in bytes.
        seconds: the build took.
        built: date and time, ISO 8601, UTC.
        layers: how many layers of which kind give which type.
        gate: what is known of the plan's agreement with PyTorch.
    """

    key: EngineKey
    sha256: str
    size: int
    seconds: float
    built: str
    layers: Mapping[str, int]
    gate: Mapping[str, Any]
    format: int = FORMAT_VERSION


class EngineCache:
    """The folder of engines. Its files are `<hash>.engine` and `<hash>.json`."""

    def __init__(self, folder: Path | None = None) -> None:
        """Open the cache; the user's own where no folder is given.

        Raises:
            OutputError: the folder cannot be made.
            UsageError: it belongs to someone else.
        """
        self.folder = folder or Path(platformdirs.user_cache_dir("ramedge")) / "engines"
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            found = self.folder.stat()
            if hasattr(os, "getuid") and found.st_uid != os.getuid():
                raise UsageError(f"{self.folder} belongs to another user: engines are code.")
            if stat.S_IMODE(found.st_mode) != 0o700:
                self.folder.chmod(0o700)
        except OSError as error:
            raise OutputError(
                f"Cannot use the engine cache {self.folder}: {error.strerror}."
            ) from None

    def plan_path(self, key: EngineKey) -> Path:
        """Where the plan of a key stands, or would."""
        return self.folder / f"{key.name}{_PLAN}"

    @contextmanager
    def lock(self, key: EngineKey) -> Iterator[None]:
        """Hold the key's lock, so that of several processes one builds and the others wait."""
        with FileLock(self.folder / f"{key.name}.lock", mode=0o600):
            yield

    def record(self, key: EngineKey) -> Record | None:
        """The record of a key; `None` where it is absent, damaged, or of another key."""
        found = _read_record(self.folder / f"{key.name}{_RECORD}")
        return found if found is not None and found.key == key else None

    def load(self, record: Record) -> bytes:
        """The plan of a record, compared with its hash before anything else sees it.

        Raises:
            WeightsError: the plan is missing or differs from what was built.
        """
        path = self.plan_path(record.key)
        try:
            data = path.read_bytes()
        except OSError:
            raise WeightsError(f"{path} is missing.") from None
        if hashlib.sha256(data).hexdigest() != record.sha256:
            raise WeightsError(f"{path} is not what was built (its hash differs): refused.")
        return data

    def store(self, record: Record, data: bytes) -> Path:
        """Write a plan, then its record, both atomically.

        Raises:
            OutputError: they cannot be written.
        """
        path = self.plan_path(record.key)
        _write(path, data)
        self.write_record(record)
        return path

    def write_record(self, record: Record) -> None:
        """Overwrite a record, for example with what the gate measured."""
        text = json.dumps(asdict(record), indent=2, sort_keys=True) + "\n"
        _write(self.folder / f"{record.key.name}{_RECORD}", text.encode())

    def records(self) -> list[Record]:
        """All records that can be read, by network, scale, graph and precision."""
        found = [_read_record(path) for path in sorted(self.folder.glob(f"*{_RECORD}"))]
        return sorted(
            (record for record in found if record is not None), key=lambda r: r.key.purpose
        )

    def nearest(self, key: EngineKey) -> Record | None:
        """The engine for the same purpose that differs in the fewest parts."""
        alike = [record for record in self.records() if record.key.purpose == key.purpose]
        return min(alike, key=lambda record: len(key.differences(record.key)), default=None)

    def remove(self, name: str) -> None:
        """Remove the plan, the record and the lock of a name."""
        for suffix in (_RECORD, _PLAN, ".lock"):
            (self.folder / f"{name}{suffix}").unlink(missing_ok=True)

    def strays(self) -> list[str]:
        """Names of files without a readable record, as an interrupted run or damage leaves."""
        known = {record.key.name for record in self.records()}
        found = {
            path.name.split(".")[0]
            for path in self.folder.iterdir()
            if path.suffix in {_PLAN, _RECORD}
        }
        return sorted(found - known)

    def timing_cache(self, variant: str, version: str, gpu: str) -> bytes:
        """What builds on this GPU learnt; empty where nothing, or where its hash differs.

        A timing cache with one flipped byte can end the process.
        """
        try:
            stored = self._timing_path(variant, version, gpu).read_bytes()
        except OSError:
            return b""
        digest, data = stored[:32], stored[32:]
        return data if hashlib.sha256(data).digest() == digest else b""

    def store_timing_cache(self, variant: str, version: str, gpu: str, data: bytes) -> None:
        """Keep it for the next build, its hash before it."""
        path = self._timing_path(variant, version, gpu)
        _write(path, hashlib.sha256(data).digest() + data)

    def _timing_path(self, variant: str, version: str, gpu: str) -> Path:
        name = hashlib.sha256(json.dumps([variant, version, gpu]).encode()).hexdigest()
        return self.folder / f"{name[:_NAME_LENGTH]}{_TIMING}"


def _write(path: Path, data: bytes) -> None:
    with atomic_path(path) as partial:
        partial.chmod(0o600)
        partial.write_bytes(data)
    path.chmod(0o600)


def _read_record(path: Path) -> Record | None:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if document["format"] != FORMAT_VERSION:
            return None
        key = dict(document.pop("key"))
        key["shapes"] = tuple(key["shapes"])
        record = Record(key=EngineKey(**key), **document)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return record if record.key.name == path.stem else None


def _short(value: Any) -> str:
    if isinstance(value, str) and len(value) == 64:
        return value[:8]  # a hash
    if isinstance(value, tuple):
        return "/".join(map(str, value))
    return str(value)
