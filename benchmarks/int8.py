"""What INT8 loses on benchmark sets, and how fast it is, against FP32 and half precision.

    python benchmarks/int8.py SET_FOLDER... [--scale 2]... [--rounds 10] [--json FILE]

Loss: PSNR-Y of each image by the shipped INT8 model and by FP32, the paper's protocol; and the
difference of the two outputs, its mean over each colour channel included. Speed: 320×180 pixels,
the candidates in turn; the ceiling is a matrix product in int8 in the same run. All by OpenVINO.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import numpy as np
import onnx
import openvino
from openvino import opset13 as ops
from PIL import Image

from ramedge.calibration.quantize import dense_convolutions, multiply_adds
from ramedge.machine import describe_machine
from ramedge.metrics import agreement
from ramedge.photos import find_photos
from ramedge.runtimes.openvino import shared_core
from ramedge.runtimes.select import PrecisionName, RuntimeSettings, open_model
from ramedge.samples import PHOTOS, sample_photo
from ramedge.weights import shipped_artifact, shipped_precisions, shipped_scales
from ramedge.worth import Loss, Picture

WIDTH, HEIGHT = 320, 180
SIDE = 2048
"""Side of the matrices whose product is the ceiling."""
CANDIDATES: tuple[PrecisionName, ...] = ("fp32", "auto", "int8")


@dataclass(frozen=True)
class SetLoss:
    """INT8 against FP32 on a set: dB of PSNR-Y, dB of agreement, levels of 255."""

    name: str
    scale: int
    images: int
    mean: float
    worst: float
    worst_image: str
    agreement_least: float
    peak: float
    bias_mean: float
    bias_worst: float


def measure_set(folder: Path, scale: int) -> SetLoss:
    before, after, agreements, names = [], [], [], []
    with (
        open_model(RuntimeSettings(precision="fp32", scale=scale)).runtime as reference,
        open_model(RuntimeSettings(precision="int8", scale=scale)).runtime as candidate,
    ):
        for path in find_photos(folder):
            with Image.open(path) as opened:
                picture = Picture.of(path.name, np.asarray(opened.convert("RGB")), scale)
            outputs = [runtime.infer_float(picture.low) for runtime in (reference, candidate)]
            before.append(picture.psnr_y(outputs[0], scale))
            after.append(picture.psnr_y(outputs[1], scale))
            expected, found = (output.transpose(0, 2, 3, 1) for output in outputs)
            agreements.append(agreement(found, expected))
            names.append(path.name)
    loss = Loss.between(before, after)
    biases = [max(map(abs, found.channel_bias)) * 255 for found in agreements]
    return SetLoss(
        name=folder.name,
        scale=scale,
        images=len(names),
        mean=loss.mean,
        worst=loss.worst,
        worst_image=names[int(np.argmax(np.subtract(before, after)))],
        agreement_least=min(found.psnr for found in agreements),
        peak=max(found.max_error for found in agreements) * 255,
        bias_mean=float(np.mean(biases)),
        bias_worst=max(biases),
    )


def measure_speed(scale: int, rounds: int) -> dict[str, object]:
    with Image.open(sample_photo(PHOTOS[1])) as opened:
        pixels = np.asarray(opened.convert("RGB").crop((100, 100, 100 + WIDTH, 100 + HEIGHT)))
    runtimes = {
        name: open_model(RuntimeSettings(precision=name, scale=scale)).runtime
        for name in CANDIDATES
    }
    product = int8_product()
    times: dict[str, list[float]] = {name: [] for name in (*runtimes, "product")}
    for turn in range(rounds + 1):
        for name, runtime in runtimes.items():
            started = time.perf_counter()
            runtime.infer(pixels[None])
            if turn:
                times[name].append(time.perf_counter() - started)
        started = time.perf_counter()
        product.infer()
        if turn:
            times["product"].append(time.perf_counter() - started)
    network = onnx.load(shipped_artifact(scale, "fp32") / "model.onnx")
    costs = multiply_adds(network, dense_convolutions(network))
    operations = 2.0 * sum(costs.values()) * WIDTH * HEIGHT
    ceiling = 2.0 * SIDE**3 / median(times["product"])
    found = {
        "scale": scale,
        "milliseconds": {runtimes[name].precision: median(times[name]) * 1e3 for name in runtimes},
        "int8_over": {
            runtimes[name].precision: median(
                other / own for other, own in zip(times[name], times["int8"], strict=True)
            )
            for name in runtimes
            if name != "int8"
        },
        "ceiling_gops": ceiling / 1e9,
        "share_of_ceiling": operations / median(times["int8"]) / ceiling,
    }
    for runtime in runtimes.values():
        runtime.close()
    return found


def int8_product() -> openvino.InferRequest:
    """A quantized matrix product, the shape that int8 arithmetic likes best."""
    left = ops.parameter([SIDE, SIDE], np.float32)
    values = np.random.default_rng(0).normal(0, 40, (SIDE, SIDE)).astype(np.float32)

    def fake(node: openvino.Node) -> openvino.Node:
        low, high = np.float32(-128), np.float32(127)
        return ops.fake_quantize(node, low, high, low, high, 256)

    weights = ops.convert(ops.constant(np.clip(np.rint(values), -127, 127).astype(np.int8)), "f32")
    made = ops.matmul(fake(left), weights, False, True)
    model = openvino.Model([ops.result(made)], [left], "product")
    compiled = shared_core().compile_model(model, "CPU", {"PERFORMANCE_HINT": "LATENCY"})
    request = compiled.create_infer_request()
    request.set_input_tensor(openvino.Tensor(values))
    return request


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("sets", type=Path, nargs="+")
    parser.add_argument("--scale", type=int, action="append")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    shipped = [scale for scale in shipped_scales() if "int8" in shipped_precisions(scale)]
    scales = options.scale or shipped
    speeds = [measure_speed(scale, options.rounds) for scale in scales]
    for speed in speeds:
        print(json.dumps(speed), flush=True)
    losses = []
    for scale in scales:
        for folder in options.sets:
            losses.append(measure_set(folder, scale))
            print(losses[-1], flush=True)
    if options.json:
        document = {
            "machine": describe_machine(),
            "speed": speeds,
            "loss": [asdict(loss) for loss in losses],
        }
        options.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
