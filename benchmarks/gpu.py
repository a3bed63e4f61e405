"""PyTorch against TensorRT and TensorRT-RTX on one GPU, from host pixels to host pixels.

python benchmarks/gpu.py [--scale 2] [--sizes 320x180 …] [--frames 60] [--int8 MODEL.onnx]
python benchmarks/gpu.py --rehearse      # on a CPU with tiny settings: shows that the script runs

Needs no network. Each way gets 8-bit frames `[H, W, 3]` in host memory and gives them back there.
Beside each figure stands its share of two rooflines measured in the same run: a large FP16 matrix
product, and a large copy in device memory. The traffic of a frame is what its convolutions read
and write if each runs by itself; a fused one may exceed that roofline.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from ramedge.artifacts.artifact import load_artifact
from ramedge.errors import RamedgeError
from ramedge.files import write_text
from ramedge.network.half import to_half
from ramedge.network.srram import SRRAM
from ramedge.network.weights import load_weights
from ramedge.runtimes.tensorrt.build import EngineRequest, get_engine
from ramedge.runtimes.tensorrt.cache import EngineCache
from ramedge.runtimes.tensorrt.cuda import open_cuda
from ramedge.runtimes.tensorrt.engine import LoadedEngine
from ramedge.runtimes.tensorrt.plan import BuildSettings, Shapes
from ramedge.runtimes.tensorrt.variant import RTX, TENSORRT
from ramedge.system import describe_machine
from ramedge.weights import shipped_artifact, shipped_weights

SIZES = ("320x180", "640x360", "1280x720", "1920x1080")
RESULTS = Path(__file__).parent / "results"
Infer = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Work:
    """What a frame of one size costs: operations, and bytes its convolutions move."""

    flops: float
    bytes: float


@dataclass(frozen=True)
class Rooflines:
    """TFLOP/s of a matrix product, GB/s of a copy (read and written bytes)."""

    matrix_tflops: float
    copy_gbs: float


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--scale", type=int, default=2)
    parser.add_argument("--sizes", nargs="+", default=list(SIZES), help="width x height")
    parser.add_argument("--frames", type=int, default=60)
    parser.add_argument("--int8", type=Path, help="audited Q/DQ model with FP16 around it")
    parser.add_argument("--rehearse", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    device = torch.device("cpu" if options.rehearse else "cuda")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise SystemExit("PyTorch sees no GPU: --rehearse runs on the CPU.")
    if options.rehearse:
        options.sizes, options.frames = ["32x18", "48x32"], 3
    sizes = [tuple(map(int, text.split("x"))) for text in options.sizes]
    network = load_weights(shipped_weights(options.scale)).network.take(options.scale).eval()
    rooflines = measure_rooflines(device)
    print(f"rooflines: {rooflines}")
    rows = []
    for width, height in sizes:
        work = work_of(network, height, width)
        for name, opened in ways(network, options, device, sizes):
            row = {"way": name, "size": f"{width}x{height}"}
            try:
                with opened() as infer:
                    row |= measure(infer, height, width, options.frames, work, rooflines)
            except (RamedgeError, MemoryError, RuntimeError) as failure:
                row["failed"] = str(failure).strip().splitlines()[0]
            rows.append(row)
            print({k: round(v, 3) if isinstance(v, float) else v for k, v in row.items()})
    document = {
        "machine": describe_machine(),
        "gpu": torch.cuda.get_device_name() if device.type == "cuda" else None,
        "rehearsal": options.rehearse,
        "scale": options.scale,
        "frames": options.frames,
        "rooflines": asdict(rooflines),
        "rows": rows,
    }
    path = options.json or (RESULTS / f"{date.today()}_gpu_x{options.scale}.json")
    if options.json or not options.rehearse:
        write_text(path, json.dumps(document, indent=2) + "\n")
        print(path)


def ways(
    network: SRRAM, options: Any, device: torch.device, sizes: list[tuple[int, ...]]
) -> Iterator[tuple[str, Any]]:
    """Name and opener of each way; an opener is a context manager that gives the function."""
    for name, prepare in TORCH_WAYS.items():
        yield f"torch {name}", lambda prepare=prepare: torch_way(network, device, prepare)
    models = {
        precision: load_artifact(shipped_artifact(options.scale, exported)).model
        for precision, exported in (("fp16", "fp32"), ("int8", "int8"))
    }
    if options.int8:
        models["int8"] = options.int8
    largest = max(height for _, height in sizes), max(width for width, _ in sizes)
    middle = sizes[len(sizes) // 2]
    settings = BuildSettings(Shapes((16, 16), (middle[1], middle[0]), largest))
    for variant in (TENSORRT, RTX):
        for precision, model in models.items():
            if variant.installed() and model.is_file():
                request = EngineRequest(
                    model, network.config.name, options.scale, precision,  # type: ignore[arg-type]
                    variant, settings=settings,
                )  # fmt: skip
                yield f"{variant.name} {precision}", lambda request=request: engine_way(request)


@contextmanager
def engine_way(request: EngineRequest) -> Iterator[Infer]:
    with TemporaryDirectory() as folder:
        engine = get_engine(request, EngineCache(Path(folder)))
        cuda = open_cuda()
        session = LoadedEngine(engine.data, request.variant, cuda)
        try:
            yield lambda pixels: session.run([pixels[None]])[0][0]
        finally:
            session.close()
            cuda.close()


def eager(network: Any, device: torch.device) -> Any:
    return to_half(network).to(device) if device.type == "cuda" else network


def channels_last(network: Any, device: torch.device) -> Any:
    return eager(network, device).to(memory_format=torch.channels_last)


def compiled(network: Any, device: torch.device) -> Any:
    """`reduce-overhead` captures CUDA graphs."""
    made = channels_last(network, device)
    return torch.compile(made, mode="reduce-overhead", dynamic=False)


TORCH_WAYS = {"eager": eager, "channels_last": channels_last, "compile+graphs": compiled}


@contextmanager
def torch_way(network: SRRAM, device: torch.device, prepare: Any) -> Iterator[Infer]:
    made = prepare(network, device)

    def infer(pixels: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            image = torch.from_numpy(pixels).to(device)[None].permute(0, 3, 1, 2).float() / 255
            output = made(image).float()
            levels = (output * 255).clamp(0, 255).round().permute(0, 2, 3, 1).to(torch.uint8)
            return levels.contiguous()[0].cpu().numpy()

    yield infer
    torch.compiler.reset()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def measure(
    infer: Infer, height: int, width: int, frames: int, work: Work, rooflines: Rooflines
) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    pixels = [rng.integers(0, 256, (height, width, 3)).astype(np.uint8) for _ in range(4)]
    free = free_device_memory()
    for index in range(3 if frames < 10 else 10):
        infer(pixels[index % 4])
    used = free - free_device_memory()
    seconds = []
    for index in range(frames):
        started = time.perf_counter()
        infer(pixels[index % 4])
        seconds.append(time.perf_counter() - started)
    p50, p90, p99 = map(float, np.percentile(seconds, (50, 90, 99)))
    tflops, gbs = work.flops / p50 / 1e12, work.bytes / p50 / 1e9
    return {
        "p50_ms": 1e3 * p50,
        "p90_ms": 1e3 * p90,
        "p99_ms": 1e3 * p99,
        "device_mib": used / 2**20,
        "tflops": tflops,
        "share_of_matrix": tflops / rooflines.matrix_tflops,
        "share_of_copy": gbs / rooflines.copy_gbs,
    }


def free_device_memory() -> int:
    return torch.cuda.mem_get_info()[0] if torch.cuda.is_available() else 0


def work_of(network: SRRAM, height: int, width: int) -> Work:
    """Counted at a small size by PyTorch; both grow with the number of pixels."""
    moved = 0

    def count(_module: Any, given: Any, output: Any) -> None:
        nonlocal moved
        moved += 2 * (given[0].numel() + output.numel())  # FP16

    hooks = [
        module.register_forward_hook(count)
        for module in network.modules()
        if isinstance(module, torch.nn.Conv2d)
    ]
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        network(torch.zeros(1, 3, 32, 32))
    for hook in hooks:
        hook.remove()
    share = height * width / (32 * 32)
    return Work(counter.get_total_flops() * share, moved * share)


def measure_rooflines(device: torch.device) -> Rooflines:
    on_gpu = device.type == "cuda"
    side = 8192 if on_gpu else 512
    dtype = torch.float16 if on_gpu else torch.float32
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    source = torch.empty(2**30 if on_gpu else 2**24, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    matrix = best_seconds(lambda: a @ b, on_gpu)
    copy = best_seconds(lambda: target.copy_(source), on_gpu)
    return Rooflines(2 * side**3 / matrix / 1e12, 2 * source.numel() / copy / 1e9)


def best_seconds(work: Callable[[], Any], on_gpu: bool) -> float:
    best = float("inf")
    for _ in range(20 if on_gpu else 3):
        if on_gpu:
            torch.cuda.synchronize()
        started = time.perf_counter()
        work()
        if on_gpu:
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - started)
    return best


if __name__ == "__main__":
    main()
