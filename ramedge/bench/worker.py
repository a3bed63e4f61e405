"""A process for each combination: what it takes in memory is its own, and a crash as well."""

from __future__ import annotations

import multiprocessing
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from ramedge.bench.roofline import measure_roofline
from ramedge.bench.settings import Candidate
from ramedge.bench.stages import Stages, run_stages
from ramedge.errors import RuntimeUnavailableError, UnexpectedError
from ramedge.failures import as_failure
from ramedge.host_memory import peak_resident_bytes
from ramedge.media.pixels import Pixels
from ramedge.quality.gate import Images
from ramedge.upscaling.open_model import model_source
from ramedge.upscaling.upscaler import Upscaler


@dataclass(frozen=True, slots=True)
class Opened:
    """What is known of a model once it has upscaled its first frame.

    Attributes:
        network: short name.
        device: in the runtime's words.
        precision: the arithmetic that really runs.
        notes: fallbacks taken.
        load_seconds: from asking for the model to its first result, in a fresh process; the
            runtime's own import is part of it.
        model_bytes: of the files on disk that are run.
    """

    network: str
    device: str
    precision: str
    notes: tuple[str, ...]
    load_seconds: float
    model_bytes: int


@dataclass(frozen=True, slots=True)
class Peak:
    """The most memory held so far, in bytes: of the whole process, and on a CUDA device."""

    host: int | None
    device: int | None


class Worker:
    """One candidate in a process of its own, until `close`.

    Raises:
        RamedgeError: what the candidate says, or that its process ended.
    """

    def __init__(self, candidate: Candidate, pixels: Pixels) -> None:
        """Start opening `candidate`; `pixels` `[H, W, 3]` is the frame that it will be timed on."""
        self.title = candidate.title
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(theirs, candidate, pixels), daemon=True
        )
        with _deaf():
            self._process.start()
        theirs.close()

    def open(self) -> Opened:
        """Open the model and upscale the first frame."""
        answer: Opened = self._ask("open")
        return answer

    def time(self, count: int) -> list[float]:
        """Seconds of each of `count` runs on the frame."""
        answer: list[float] = self._ask("time", count)
        return answer

    def peak(self) -> Peak:
        """Memory so far."""
        answer: Peak = self._ask("peak")
        return answer

    def infer_float(self, images: Images) -> Images:
        """As `Runtime.infer_float`."""
        answer: Images = self._ask("infer_float", images)
        return answer

    def upscale(self, pixels: Pixels) -> Pixels:
        """As `Upscaler.upscale`."""
        answer: Pixels = self._ask("upscale", pixels)
        return answer

    def roofline(self) -> float | None:
        """See `measure_roofline`."""
        answer: float | None = self._ask("roofline")
        return answer

    def end_to_end(self, source: Path, frames: int, folder: Path) -> Stages:
        """See `run_stages`."""
        answer: Stages = self._ask("end_to_end", source, frames, folder)
        return answer

    def _ask(self, question: str, *arguments: Any) -> Any:
        try:
            self._pipe.send((question, arguments))
            good, answer = self._pipe.recv()
        except (EOFError, OSError):
            raise RuntimeUnavailableError(f"{self.title} {self._ending()}") from None
        if not good:
            text, unexpected = answer
            kind = UnexpectedError if unexpected else RuntimeUnavailableError
            raise kind(f"{self.title}: {text}")
        return answer

    def _ending(self) -> str:
        self._process.join(5)
        code = self._process.exitcode or 0
        if code == -signal.SIGKILL:
            return "was killed: if memory ran out, choose a smaller --size."
        return f"ended by itself ({f'signal {-code}' if code < 0 else f'exit code {code}'})."

    def close(self) -> None:
        """End the process, whatever it is doing."""
        self._pipe.close()
        self._process.terminate()
        self._process.join()


class _Session:
    """The same questions inside the process."""

    def __init__(self, candidate: Candidate, pixels: Pixels) -> None:
        self._candidate = candidate
        self._frame: Pixels = pixels[None]

    def open(self) -> Opened:
        started = time.perf_counter()
        self._upscaler = Upscaler(self._candidate.settings)
        model = self._upscaler.model
        self._runtime = model.runtime
        self._runtime.infer(self._frame)
        return Opened(
            network=model.network,
            device=self._runtime.device,
            # As `Runtime.infer` has it: 16-bit pixels are always computed in FP32.
            precision="fp32" if self._frame.dtype == np.uint16 else self._runtime.precision,
            notes=self._runtime.notes,
            load_seconds=time.perf_counter() - started,
            model_bytes=_bytes_on_disk(model_source(self._candidate.settings)),
        )

    def time(self, count: int) -> list[float]:
        seconds = []
        for _ in range(count):
            started = time.perf_counter()
            self._runtime.infer(self._frame)
            seconds.append(time.perf_counter() - started)
        return seconds

    def peak(self) -> Peak:
        device = None
        if self._runtime.name == "torch" and self._runtime.device.startswith("cuda"):
            import torch

            device = int(torch.cuda.max_memory_allocated())
        return Peak(peak_resident_bytes(), device)

    def infer_float(self, images: Images) -> Images:
        return self._runtime.infer_float(images)

    def upscale(self, pixels: Pixels) -> Pixels:
        return self._upscaler.upscale(pixels)

    def roofline(self) -> float | None:
        return measure_roofline(self._runtime)

    def end_to_end(self, source: Path, frames: int, folder: Path) -> Stages:
        return run_stages(source, frames, folder, self._upscaler)


def _bytes_on_disk(source: Path) -> int:
    from ramedge.artifacts.artifact import is_artifact, load_artifact
    from ramedge.artifacts.storage import bytes_read

    if not is_artifact(source):
        return source.stat().st_size
    artifact = load_artifact(source)
    if artifact.is_onnx:
        return bytes_read(artifact.model)
    # An .xml has its weights in a .bin beside it.
    return sum(file.stat().st_size for file in artifact.folder.glob(f"{artifact.model.stem}.*"))


@contextmanager
def _deaf() -> Iterator[None]:
    """Processes started inside do not hear Ctrl-C: it is the parent who ends them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


def _serve(pipe: Connection, candidate: Candidate, pixels: Pixels) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    session = _Session(candidate, pixels)
    while True:
        try:
            question, arguments = pipe.recv()
        except (EOFError, OSError):
            return
        try:
            answer = True, getattr(session, question)(*arguments)
        except MemoryError:
            answer = False, ("not enough memory: choose a smaller --size.", False)
        except Exception as error:
            failure = as_failure(error, f"running {candidate.title}")
            # Its text, not the failure itself: not all of them can be sent.
            answer = False, (str(failure), isinstance(failure, UnexpectedError))
        pipe.send(answer)
