"""What the collapsed tail of exported graphs gains (`ramedge/network/collapse.py`).

    python benchmarks/collapse.py [--scale 2]... [--rounds 15] [--json FILE]

The shipped weights with the tail as it was trained and with the collapsed one, OpenVINO on the CPU,
320×180 pixels with the shape known, in FP32 and in half precision, all in turn in one process. The
difference is the largest of any value, in levels of 255, in FP32.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from statistics import median
from unittest import mock

import numpy as np
import openvino
from PIL import Image

from ramedge.export.onnx import export_onnx
from ramedge.network.config import NetworkConfig
from ramedge.network.weights import load_weights
from ramedge.runtimes.openvino.session import shared_core
from ramedge.samples import PHOTOS, sample_photo
from ramedge.system import describe_machine
from ramedge.weights import shipped_weights

WIDTH, HEIGHT = 320, 180
ARITHMETIC = {"FP32": openvino.Type.f32, "bfloat16": openvino.Type.bf16}


def compiled(path: Path, arithmetic: openvino.Type) -> openvino.InferRequest:
    model = shared_core().read_model(path)
    model.reshape([1, 3, HEIGHT, WIDTH])
    hints = {"INFERENCE_PRECISION_HINT": arithmetic, "PERFORMANCE_HINT": "LATENCY"}
    return shared_core().compile_model(model, "CPU", hints).create_infer_request()


def measure(scale: int, rounds: int) -> dict[str, object]:
    network = load_weights(shipped_weights(scale)).network.take(scale)
    with Image.open(sample_photo(PHOTOS[0])) as opened:
        photo = opened.convert("RGB").resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
    image = np.asarray(photo, np.float32).transpose(2, 0, 1)[None] / 255
    runs = {}
    with tempfile.TemporaryDirectory() as folder:
        trained, collapsed = Path(folder) / "trained.onnx", Path(folder) / "collapsed.onnx"
        export_onnx(network, collapsed)
        with mock.patch("ramedge.export.onnx.collapse", lambda given: given):
            export_onnx(network, trained)
        for name, arithmetic in ARITHMETIC.items():
            for path in (trained, collapsed):
                runs[f"{name}, {path.stem}"] = compiled(path, arithmetic)
        seconds: dict[str, list[float]] = {name: [] for name in runs}
        for _ in range(rounds + 2):
            for name, request in runs.items():
                started = time.perf_counter()
                request.infer({"image": image})
                seconds[name].append(time.perf_counter() - started)
    outputs = {name: request.get_output_tensor(0).data for name, request in runs.items()}
    difference = np.abs(outputs["FP32, trained"] - outputs["FP32, collapsed"]).max()
    config = NetworkConfig(scales=(scale,))
    return {
        "scale": scale,
        "multiply_adds": [config.multiply_adds(scale), config.collapsed_multiply_adds(scale)],
        "milliseconds": {name: 1e3 * median(times[2:]) for name, times in seconds.items()},
        "faster": {
            name: median(
                a / b
                for a, b in zip(
                    seconds[f"{name}, trained"][2:], seconds[f"{name}, collapsed"][2:], strict=True
                )
            )
            for name in ARITHMETIC
        },
        "difference": float(difference) * 255,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=int, action="append")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rows = []
    for scale in arguments.scale or (2, 3, 4):
        rows.append(measure(scale, arguments.rounds))
        print(json.dumps(rows[-1]), flush=True)
    if arguments.json:
        record = {"machine": describe_machine(), "rows": rows}
        arguments.json.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
