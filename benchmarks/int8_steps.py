"""What makes INT8 fast on a CPU, step by step, and where its time goes.

    python benchmarks/int8_steps.py [--scale 2] [--rounds 10] [--json FILE]

The shipped INT8 model on 320×180 pixels by OpenVINO, in turn: with FP32 around the int8
convolutions, with the fastest arithmetic around them (bfloat16 where the CPU has it), with the
shape known when the graph is built, with the operations that OpenVINO fuses best
(`ramedge.runtimes.openvino.rewrites`: what `ramedge upscale` runs), and with two frames at once on
one core each. FP32 and half precision stand beside it. The profile adds up OpenVINO's own counters
by kind of node, before and after.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import openvino
from PIL import Image

from ramedge.artifacts.artifact import load_artifact
from ramedge.runtimes.openvino.rewrites import prepare
from ramedge.runtimes.openvino.session import shared_core
from ramedge.samples import PHOTOS, sample_photo
from ramedge.system import describe_machine
from ramedge.weights import shipped_artifact

WIDTH, HEIGHT = 320, 180


@dataclass(frozen=True)
class Variant:
    """A way to run a model: arithmetic around int8, shape known, rewritten, frames at once."""

    model: str
    arithmetic: str
    static: bool = False
    prepared: bool = False
    frames: int = 1


VARIANTS = {
    "FP32": Variant("fp32", "f32"),
    "half precision": Variant("fp32", "half"),
    "half precision, static shape": Variant("fp32", "half", static=True),
    "INT8, FP32 around": Variant("int8", "f32"),
    "INT8, half precision around": Variant("int8", "half"),
    "INT8, half, static shape": Variant("int8", "half", static=True),
    "half precision, prepared": Variant("fp32", "half", static=True, prepared=True),
    "INT8, half, prepared": Variant("int8", "half", static=True, prepared=True),
    "INT8, half, prepared, two frames": Variant(
        "int8", "half", static=True, prepared=True, frames=2
    ),
}


class Runner:
    """A compiled variant, and requests for as many frames as it runs at once."""

    def __init__(self, variant: Variant, scale: int, half: str, image: np.ndarray) -> None:
        artifact = load_artifact(shipped_artifact(scale, variant.model))
        model = shared_core().read_model(artifact.model)
        if variant.prepared:
            model = prepare(shared_core(), model, True, [image.shape])
        elif variant.static:
            model.reshape({0: list(image.shape)})
        settings: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY" if variant.frames == 1 else "THROUGHPUT",
            "INFERENCE_PRECISION_HINT": half if variant.arithmetic == "half" else "f32",
            "PERF_COUNT": True,
        }
        if variant.frames > 1:
            settings["NUM_STREAMS"] = variant.frames
        compiled = shared_core().compile_model(model, "CPU", settings)
        self.requests = [compiled.create_infer_request() for _ in range(variant.frames)]
        for request in self.requests:
            request.set_input_tensor(openvino.Tensor(image))

    def milliseconds(self) -> float:
        """Time for a frame."""
        started = time.perf_counter()
        for request in self.requests:
            request.start_async()
        for request in self.requests:
            request.wait()
        return (time.perf_counter() - started) * 1e3 / len(self.requests)

    def profile(self) -> dict[str, float]:
        """Milliseconds of the last run by kind of node and kernel."""
        found: dict[str, float] = defaultdict(float)
        for node in self.requests[0].profiling_info:
            spent = node.real_time.total_seconds() * 1e3
            if spent > 0.05:
                found[f"{node.node_type} {node.exec_type}"] += spent
        return dict(sorted(found.items(), key=lambda pair: -pair[1]))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--scale", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    capabilities = shared_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    half = next(
        (name.lower().replace("fp16", "f16") for name in ("BF16", "FP16") if name in capabilities),
        "f32",
    )
    with Image.open(sample_photo(PHOTOS[1])) as opened:
        pixels = np.asarray(opened.convert("RGB").crop((100, 100, 100 + WIDTH, 100 + HEIGHT)))
    image = np.ascontiguousarray(pixels.transpose(2, 0, 1)[None].astype(np.float32) / 255)
    runners = {
        name: Runner(variant, options.scale, half, image) for name, variant in VARIANTS.items()
    }
    times: dict[str, list[float]] = {name: [] for name in runners}
    for turn in range(options.rounds + 2):
        for name, runner in runners.items():
            spent = runner.milliseconds()
            if turn > 1:
                times[name].append(spent)
    rows = []
    for name in runners:
        ratio = median(a / b for a, b in zip(times["FP32"], times[name], strict=True))
        rows.append({"variant": name, "milliseconds": median(times[name]), "over_fp32": ratio})
        print(f"{name:34s} {median(times[name]):7.1f} ms  {ratio:.2f} times FP32")
    profiles = {name: runners[name].profile() for name in runners}
    for name in ("INT8, half, static shape", "INT8, half, prepared"):
        print(name)
        for kind, spent in list(profiles[name].items())[:8]:
            print(f"  {spent:7.1f} ms  {kind}")
    if options.json:
        document = {
            "machine": describe_machine(),
            "scale": options.scale,
            "half": half,
            "rows": rows,
            "profiles": profiles,
        }
        options.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
