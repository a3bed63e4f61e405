"""Bad input: one line that says what to do, an exit code, and nothing half-written."""

from __future__ import annotations

import os
import pickle
import shutil
import signal
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

from ramedge.network.config import NetworkConfig
from ramedge.network.srram import SRRAM
from ramedge.network.weights import save_weights
from ramedge.samples import sample_clip, sample_photo


def listing(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*")}


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A small real picture."""
    path = tmp_path / "small.png"
    with Image.open(sample_photo("chelsea.png")) as opened:
        opened.crop((120, 80, 160, 110)).save(path)
    return path


def png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        checksum = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(bytes(1000))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    )


def truncated(source: Path, target: Path, share: float) -> Path:
    data = source.read_bytes()
    target.write_bytes(data[: int(len(data) * share)])
    return target


def test_missing_file(ramedge, tmp_path: Path) -> None:
    ended = ramedge("upscale", tmp_path / "nothing.png")
    assert ended.code == 1
    assert "No such file" in ended.error
    assert listing(tmp_path) == set()


@pytest.mark.parametrize("name", ["x.png", "x.jpg", "x.tiff", "x.mp4", "x.mkv"])
@pytest.mark.parametrize("content", [b"", b"this is text, not a picture\n" * 40])
def test_empty_files_and_text(ramedge, tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    ended = ramedge("upscale", path)
    assert ended.code == 1
    assert name in ended.error
    assert listing(tmp_path) == {name}


def test_truncated_jpeg(ramedge, tmp_path: Path) -> None:
    with Image.open(sample_photo("coffee.png")) as opened:
        opened.save(tmp_path / "whole.jpg", quality=90)
    path = truncated(tmp_path / "whole.jpg", tmp_path / "cut.jpg", 0.6)
    ended = ramedge("upscale", path)
    assert ended.code == 1
    assert "cut.jpg" in ended.error
    assert listing(tmp_path) == {"whole.jpg", "cut.jpg"}


def test_truncated_mp4(ramedge, tmp_path: Path) -> None:
    path = truncated(sample_clip(), tmp_path / "cut.mp4", 0.5)
    ended = ramedge("upscale", path)
    assert ended.code == 1
    assert "cut.mp4" in ended.error
    assert listing(tmp_path) == {"cut.mp4"}


def test_decompression_bomb_is_refused_within_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(png_header(30_000, 30_000))
    program = (
        "import resource, sys\n"
        "from ramedge.cli.entry import main\n"
        "start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "sys.argv = ['ramedge', 'upscale', sys.argv[1]]\n"
        "try: main()\n"
        "except SystemExit as ended: code = ended.code\n"
        "grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - start\n"
        "print(code, grown // 1024)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=False
    )
    code, grown = map(int, done.stdout.split())
    assert code == 1
    assert "900" in done.stderr  # megapixels
    assert grown < 300  # MiB; the picture alone would take 2,700
    assert listing(tmp_path) == {"bomb.png"}


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (5, 3)])
def test_tiny_pictures(ramedge, tmp_path: Path, size: tuple[int, int]) -> None:
    path = tmp_path / "tiny.png"
    Image.new("RGB", size, (200, 100, 50)).save(path)
    assert ramedge("upscale", path, "-o", tmp_path / "out.png").code == 0
    with Image.open(tmp_path / "out.png") as opened:
        assert opened.size == (2 * size[0], 2 * size[1])


def write_clip(path: Path, frames: int, audio_only: bool = False, size: int = 32) -> None:
    with av.open(str(path), "w") as container:
        if audio_only:
            stream = container.add_stream("pcm_s16le" if path.suffix == ".mkv" else "aac", 8000)
            sound = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.int16), "s16", "mono")
            sound.sample_rate = 8000
            packets = stream.encode(sound) + stream.encode(None)
        else:
            stream = container.add_stream("libx264", 10)
            stream.width, stream.height, stream.pix_fmt = size, size, "yuv420p"
            packets = []
            for index in range(frames):
                pixels = np.full((size, size, 3), index * 20 % 255, np.uint8)
                packets += stream.encode(av.VideoFrame.from_ndarray(pixels, "rgb24"))
            packets += stream.encode(None)
        container.start_encoding()  # a header even where no packet follows
        container.mux(packets)


def test_a_file_without_video(ramedge, tmp_path: Path) -> None:
    write_clip(tmp_path / "sound.mkv", 0, audio_only=True)
    ended = ramedge("upscale", tmp_path / "sound.mkv")
    assert ended.code == 1
    assert "video" in ended.error
    assert listing(tmp_path) == {"sound.mkv"}


def test_a_video_without_frames(ramedge, tmp_path: Path) -> None:
    write_clip(tmp_path / "none.mp4", 0)
    ended = ramedge("upscale", tmp_path / "none.mp4")
    assert ended.code == 1
    assert "none.mp4" in ended.error
    assert listing(tmp_path) == {"none.mp4"}


@pytest.fixture
def broken_video(tmp_path: Path) -> Path:
    """Decodes for a while, then stops: its index comes first, its end is missing."""
    whole = tmp_path / "whole.mkv"
    with av.open(str(whole), "w") as container:
        stream = container.add_stream("libx264", 10)
        stream.width, stream.height, stream.pix_fmt = 48, 48, "yuv420p"
        stream.options = {"g": "4", "crf": "5"}
        rng = np.random.default_rng(0)
        packets = []
        for _ in range(20):
            pixels = rng.integers(0, 255, (48, 48, 3)).astype(np.uint8)
            packets += stream.encode(av.VideoFrame.from_ndarray(pixels, "rgb24"))
        container.mux(packets + stream.encode(None))
    broken = truncated(whole, tmp_path / "broken.mkv", 0.6)
    whole.unlink()
    return broken


def test_a_video_that_breaks_off_leaves_nothing(ramedge, broken_video: Path) -> None:
    ended = ramedge("upscale", broken_video)
    assert ended.code == 1
    assert "broken.mkv" in ended.error
    assert listing(broken_video.parent) == {"broken.mkv"}


def test_keep_going_keeps_what_was_decoded(ramedge, broken_video: Path) -> None:
    output = broken_video.parent / "out.mkv"
    ended = ramedge("upscale", broken_video, "--keep-going", "-o", output)
    assert ended.code == 1
    assert "Kept the" in ended.error
    with av.open(str(output)) as container:
        kept = sum(1 for _ in container.decode(video=0))
    assert f"{kept} frames" in ended.error
    assert 0 < kept < 20


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_output_to_a_device_is_refused(ramedge, small: Path, tmp_path: Path) -> None:
    link = tmp_path / "out.png"
    link.symlink_to("/dev/full")
    for target in ("/dev/full", link):
        ended = ramedge("upscale", small, "-o", target, "-y")
        assert ended.code == 1
        assert "full" in ended.error or "plain file" in ended.error
    assert Path("/dev/full").is_char_device()
    assert listing(tmp_path) == {"small.png", "out.png"}


@pytest.mark.parametrize("kind", ["image", "video"])
def test_a_full_disk(tmp_path: Path, kind: str) -> None:
    """A file size limit ends writing as a full disk would."""
    source = sample_photo("chelsea.png") if kind == "image" else sample_clip()
    shutil.copy(source, tmp_path)
    program = (
        "import resource, sys\n"
        "from ramedge.cli.entry import main\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n"
        "sys.argv = ['ramedge', 'upscale', *sys.argv[1:]]\n"
        "main()\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path / source.name)]
    if kind == "video":
        command += ["--frames", "2", "-e", "crf=0"]
    else:
        with Image.open(source) as opened:
            opened.crop((0, 0, 120, 120)).save(tmp_path / source.name)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert "error:" in done.stderr
    assert "Traceback" not in done.stderr
    assert listing(tmp_path) == {source.name}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_an_unwritable_folder(ramedge, small: Path, tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    ended = ramedge("upscale", small, "-o", locked / "out.png")
    assert ended.code == 1
    assert "out.png" in ended.error


def test_a_folder_that_is_a_file(ramedge, small: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    ended = ramedge("upscale", small, "-o", tmp_path / "file" / "out.png")
    assert ended.code == 1
    assert "out.png" in ended.error


def test_output_equals_input(ramedge, small: Path) -> None:
    before = small.read_bytes()
    ended = ramedge("upscale", small, "-o", small, "-y")
    assert ended.code == 2
    assert "is the input itself" in ended.error
    assert small.read_bytes() == before


def test_an_existing_output_is_kept(ramedge, small: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.png"
    target.write_text("precious")
    ended = ramedge("upscale", small, "-o", target)
    assert ended.code == 2
    assert "-y" in ended.error
    assert target.read_text() == "precious"
    assert ramedge("upscale", small, "-o", target, "-n").code == 0
    assert target.read_text() == "precious"
    assert ramedge("upscale", small, "-o", target, "-y").code == 0
    with Image.open(target) as opened:
        assert opened.size == (80, 60)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("-c", "divx9"), "divx9"),
        (("-e", "nonsense=1"), "nonsense"),
        (("-e", "crf"), "key=value"),
        (("--pix-fmt", "yuv999p"), "yuv999p"),
        (("--frames", "0"), "at least 1"),
        (("--start", "-1"), "negative"),
        (("--tile", "many"), "--tile"),
        (("--tile", "-5"), "--tile"),
        (("--tile", "1"), "at least 16"),
        (("--max-megapixels", "nan"), "--max-megapixels"),
        (("-o", "x" * 250 + ".mp4"), "too long"),
        (("--scale", "7"), "Scale 7"),
        (("-y", "-n"), "not both"),
        (("-o", "out.gif"), "suffix"),
    ],
)
def test_impossible_options(ramedge, tmp_path: Path, arguments, message: str) -> None:
    write_clip(tmp_path / "clip.mp4", 2)
    if arguments[0] == "-o":
        arguments = ("-o", tmp_path / arguments[1])
    ended = ramedge("upscale", tmp_path / "clip.mp4", *arguments)
    assert ended.code in {1, 2}
    assert message in ended.error
    assert listing(tmp_path) == {"clip.mp4"}


def test_unknown_weights(ramedge, small: Path, tmp_path: Path) -> None:
    ended = ramedge("upscale", small, "--model", tmp_path / "none.safetensors")
    assert ended.code == 2
    assert "none.safetensors" in ended.error


def test_weights_of_another_scale(ramedge, small: Path, tmp_path: Path) -> None:
    weights = tmp_path / "x3.safetensors"
    save_weights(SRRAM(NetworkConfig(blocks=1, channels=16, scales=(3,))), weights)
    ended = ramedge("upscale", small, "--model", weights, "--scale", "2")
    assert ended.code == 2
    assert "not for ×2" in ended.error
    assert listing(tmp_path) == {"small.png", "x3.safetensors"}


def test_a_pickle_with_code_is_not_run(ramedge, small: Path, tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple:
            return (Path.touch, (tmp_path / "executed",))

    for name in ("weights.pth", "weights.safetensors"):
        (tmp_path / name).write_bytes(pickle.dumps(Bomb()))
        ended = ramedge("upscale", small, "--model", tmp_path / name)
        assert ended.code == 1
        assert "refused" in ended.error
        torch.save(Bomb(), tmp_path / name)
        assert ramedge("eval", tmp_path, "--model", tmp_path / name).code == 1
    assert "executed" not in listing(tmp_path)


@pytest.mark.parametrize(
    "address",
    ["http://127.0.0.1:9/x.mp4", "https://example.invalid/x.png", "concat:a.mp4|b.mp4", "pipe:0"],
)
def test_addresses_are_not_opened(ramedge, tmp_path: Path, address: str) -> None:
    ended = ramedge("upscale", address, "-o", tmp_path / "out.mp4")
    assert ended.code == 1
    assert "only local files" in ended.error


@pytest.mark.parametrize("name", ["list.m3u8", "list.mp4", "list.mkv"])
@pytest.mark.parametrize(
    "text",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nclip.mp4\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile clip.mp4\n",
    ],
)
def test_playlists_are_not_followed(ramedge, tmp_path: Path, name: str, text: str) -> None:
    write_clip(tmp_path / "clip.mp4", 2)
    (tmp_path / name).write_text(text)
    ended = ramedge("upscale", tmp_path / name)
    assert ended.code == 1
    assert name in ended.error
    assert listing(tmp_path) == {"clip.mp4", name}


def test_a_bad_file_does_not_stop_the_others(ramedge, small: Path, tmp_path: Path) -> None:
    (tmp_path / "a_bad.png").write_bytes(b"bad")
    shutil.copy(small, tmp_path / "z_good.png")
    ended = ramedge("upscale", tmp_path, "-o", tmp_path / "out")
    assert ended.code == 1
    assert "a_bad.png" in ended.error
    assert "2 done, 0 skipped, 1 failed" in ended.err
    assert listing(tmp_path / "out") == {
        "small_srram_r10c64_x2.png", "z_good_srram_r10c64_x2.png",
    }  # fmt: skip


def test_a_missing_file_does_not_stop_the_others(ramedge, small: Path, tmp_path: Path) -> None:
    ended = ramedge("upscale", tmp_path / "none.png", small, "", "-o", tmp_path / "out")
    assert ended.code == 1
    assert "1 done, 0 skipped, 2 failed" in ended.err
    assert listing(tmp_path / "out") == {"small_srram_r10c64_x2.png"}


def test_json_never_replaces_a_picture(ramedge, small: Path, tmp_path: Path) -> None:
    before = small.read_bytes()
    for arguments in (("upscale", small, "-o", tmp_path / "out.png"), ("eval", tmp_path)):
        ended = ramedge(*arguments, "--json", small)
        assert ended.code == 2
        assert "must end with .json" in ended.error
        ended = ramedge(*arguments, "--json", tmp_path / "none" / "x.json")
        assert ended.code == 1
    assert small.read_bytes() == before
    assert listing(tmp_path) == {"small.png"}


def test_two_runs_with_one_target_do_not_share_a_file(small: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.png"
    command = [sys.executable, "-m", "ramedge", "upscale", str(small), "-o", str(target), "-y"]
    runs = [subprocess.Popen(command, stderr=subprocess.DEVNULL) for _ in range(2)]
    assert [run.wait(120) for run in runs] == [0, 0]
    with Image.open(target) as opened:
        opened.load()
    assert listing(tmp_path) == {"small.png", "out.png"}


def test_an_empty_folder(ramedge, tmp_path: Path) -> None:
    ended = ramedge("upscale", tmp_path)
    assert ended.code == 1
    assert "holds no image or video" in ended.error


def interrupt_when(
    command: list[str], ready, cwd: Path, number: int = signal.SIGINT
) -> subprocess.CompletedProcess[str]:
    """Run a command and press Ctrl-C once `ready()` holds."""
    with subprocess.Popen(
        command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        deadline = time.monotonic() + 120
        while not ready() and time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.02)
        process.send_signal(number)
        out, err = process.communicate(timeout=120)
    return subprocess.CompletedProcess(command, process.returncode, out, err)


def test_ctrl_c_in_a_video(ramedge, tmp_path: Path) -> None:
    source = shutil.copy(sample_clip(), tmp_path / "clip.mp4")
    target = tmp_path / "out.mp4"
    command = [sys.executable, "-m", "ramedge", "upscale", str(source), "-o", str(target)]

    def is_writing() -> bool:
        return any(tmp_path.glob("*.partial"))

    for number in (signal.SIGINT, signal.SIGTERM):
        ended = interrupt_when(command, is_writing, tmp_path, number)
        assert ended.returncode == 130, ended.stderr
        assert "error: Interrupted" in ended.stderr
        assert "Traceback" not in ended.stderr
        assert listing(tmp_path) == {"clip.mp4"}
    assert ramedge("upscale", source, "-o", target, "--frames", "1").code == 0


def test_ctrl_c_in_an_image(tmp_path: Path) -> None:
    """Enough tiny pictures that one of them is being worked on."""
    folder = tmp_path / "in"
    folder.mkdir()
    for index in range(40):
        Image.new("RGB", (64, 64), (index, 0, 0)).save(folder / f"{index:02}.png")
    output = tmp_path / "out"
    command = [sys.executable, "-m", "ramedge", "upscale", str(folder), "-o", str(output)]

    def two_are_done() -> bool:
        return len(list(output.glob("*.png"))) >= 2

    ended = interrupt_when(command, two_are_done, tmp_path)
    assert ended.returncode == 130, ended.stderr
    assert "Traceback" not in ended.stderr
    finished = listing(output)
    assert 0 < len(finished) < 40
    for name in finished:
        with Image.open(output / name) as opened:
            opened.load()
            assert opened.size == (128, 128)


def test_ctrl_c_in_training(photo_folder: Path, tmp_path: Path, ramedge) -> None:
    run = tmp_path / "run"
    options = [
        "train", "--data", str(photo_folder), "--blocks", "1", "--recipe", "paper",
        "--patch", "16", "--batch", "2", "--device", "cpu", "-o", str(run),
    ]  # fmt: skip
    command = [sys.executable, "-m", "ramedge", *options, "--steps", "100000"]
    command += ["--checkpoint-every", "3"]
    ended = interrupt_when(command, (run / "run.json").exists, tmp_path)
    assert ended.returncode == 130, ended.stderr
    assert "continue with --resume" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert listing(run) == {"checkpoint.pt", "weights.safetensors", "run.json"}
    step = torch.load(run / "checkpoint.pt", weights_only=True)["step"]
    assert ramedge(*options, "--steps", step + 2, "--resume").code == 0


def test_a_run_folder_that_is_a_file_is_said_before_any_training(
    ramedge, photo_folder: Path, small: Path
) -> None:
    ended = ramedge("train", "--data", photo_folder, "--steps", 1, "-o", small)
    assert (ended.code, "is a file: choose a folder" in ended.error) == (2, True)
    ended = ramedge(
        "study", "--data", photo_folder, "--eval", photo_folder, "--steps", 1, "-o", small
    )
    assert (ended.code, "is a file: choose a folder" in ended.error) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("bench", "--compare", "a.json", "b.json", "--size", "3x3"), "leave the other options"),
        (
            ("export", "--runtime", "tensorrt-rtx", "-m", "model.onnx", "-o", "engines"),
            "leave -o, --calibration and --report out",
        ),
    ],
)
def test_options_that_would_do_nothing_are_refused(ramedge, arguments: tuple, words: str) -> None:
    if "tensorrt-rtx" in arguments:
        pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed")
    ended = ramedge(*arguments)
    assert (ended.code, words in ended.error) == (2, True)
