"""What INT8 loses on benchmark sets, and how fast it is, against FP32 and half precision.

    python benchmarks/int8.py SET_FOLDER... [--scale 2]... [--rounds 20] [--json FILE]

Loss: PSNR-Y of each image by the shipped INT8 model and by FP32, the paper's protocol; and the
difference of the two outputs, its mean over each colour channel included; all in 8 bits, as
pictures are read and written. Speed: 320×180 pixels, the candidates in turn, each after so many
frames that it is compiled for the size; the roofline is a matrix product in int8 in the same run.
All by OpenVINO.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import numpy as np
from PIL import Image

from ramedge.artifacts.artifact import load_artifact
from ramedge.artifacts.storage import read_graph
from ramedge.bench.roofline import measure_roofline
from ramedge.calibration.quantize import dense_convolutions, multiply_adds
from ramedge.quality.int8_budget import CheckImage, Loss
from ramedge.quality.metrics import agreement, psnr_y
from ramedge.quality.photos import find_photos
from ramedge.runtimes.backend import PrecisionName
from ramedge.runtimes.openvino.session import REPEATS
from ramedge.samples import PHOTOS, sample_photo
from ramedge.system import describe_machine
from ramedge.upscaling.open_model import RuntimeSettings, open_model
from ramedge.weights import shipped_artifact, shipped_precisions, shipped_scales

WIDTH, HEIGHT = 320, 180
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
                picture = CheckImage.of(path.name, np.asarray(opened.convert("RGB")), scale)
            low = np.rint(picture.low * 255).astype(np.uint8).transpose(0, 2, 3, 1)
            expected, found = (runtime.infer(low)[0] for runtime in (reference, candidate))
            before.append(psnr_y(expected, picture.high, scale))
            after.append(psnr_y(found, picture.high, scale))
            agreements.append(agreement(_unit(found), _unit(expected)))
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


def _unit(pixels: np.ndarray) -> np.ndarray:
    return pixels.astype(np.float32) / np.float32(255)


def measure_speed(scale: int, rounds: int) -> dict[str, object]:
    with Image.open(sample_photo(PHOTOS[1])) as opened:
        pixels = np.asarray(opened.convert("RGB").crop((100, 100, 100 + WIDTH, 100 + HEIGHT)))
    runtimes = {
        name: open_model(RuntimeSettings(precision=name, scale=scale)).runtime
        for name in CANDIDATES
    }
    roofline = measure_roofline(runtimes["int8"])
    assert roofline is not None
    times: dict[str, list[float]] = {name: [] for name in runtimes}
    for turn in range(-REPEATS - 1, rounds):
        for name, runtime in runtimes.items():
            started = time.perf_counter()
            runtime.infer(pixels[None])
            if turn >= 0:
                times[name].append(time.perf_counter() - started)
    network = read_graph(load_artifact(shipped_artifact(scale, "fp32")).model)
    costs = multiply_adds(network, dense_convolutions(network))
    operations = 2.0 * sum(costs.values()) * WIDTH * HEIGHT
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
        "roofline_gops": roofline / 1e9,
        "share_of_roofline": operations / median(times["int8"]) / roofline,
    }
    for runtime in runtimes.values():
        runtime.close()
    return found


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
