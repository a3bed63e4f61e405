"""Every name of TensorRT that our code touches is there in every version it is meant for.

The surfaces were read from NVIDIA's own Python bindings (`scripts/tensorrt_surface.py`). This is
a contract test: it shows that the names exist, not that the code runs.
"""

from __future__ import annotations

import copy
import importlib.util
import json
from pathlib import Path

import pytest
from touched import UnfollowedError, missing, touched

import ramedge

ROOT = Path(ramedge.__file__).parents[1]
SURFACES = sorted((Path(__file__).parent / "surfaces").glob("*.json"))
SOURCES = [
    *(ROOT / "export").rglob("*.py"), *(ROOT / "runtimes").rglob("*.py"),
    *(ROOT / "benchmarks").glob("*.py"),
]  # fmt: skip
TOUCHED = touched(*SOURCES)


def names_of(surface: Path) -> dict[str, list[str]]:
    return json.loads(surface.read_text())["names"]


def wanted(surface: Path) -> set[tuple[str, ...]]:
    of_rtx = "rtx" in surface.name
    return {place for place in TOUCHED if len(place) > 1 and (of_rtx or place[0] == "rt")}


def test_the_versions_are_those_of_jetpack_and_the_desktop() -> None:
    found = {json.loads(path.read_text())["version"].rsplit(".", 1)[0] for path in SURFACES}
    assert {"10.3", "10.13.3", "10.16.1", "11.4.0", "1.7.1"} == found


@pytest.mark.parametrize("surface", SURFACES, ids=lambda path: path.stem)
def test_all_that_is_touched_exists(surface: Path) -> None:
    assert missing(wanted(surface), names_of(surface)) == []


def test_the_list_holds_what_matters() -> None:
    names = {".".join(place) for place in TOUCHED}
    assert {
        "rt.Builder.create_network",
        "rt.Builder.build_serialized_network",
        "rt.NetworkDefinitionCreationFlag.STRONGLY_TYPED",
        "rt.OnnxParser.get_error",
        "rt.ParserError.desc",
        "rt.IExecutionContext.execute_async_v3",
        "rt.IExecutionContext.set_tensor_address",
        "rt.IProgressMonitor.step_complete",
        "rt.ILogger.Severity.INTERNAL_ERROR",
        "rt.Runtime.deserialize_cuda_engine",
        "rtx.IRuntimeConfig.cuda_graph_strategy",
        "rtx.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE",
    } <= names
    assert len(names) > 50


def test_nothing_is_touched_that_newer_versions_removed() -> None:
    """The old precision API by name, wherever it may hide."""
    gone = ("BuilderFlag.FP16", "BuilderFlag.INT8", "Calibrator", "set_dynamic_range",
            "supports_model", "device_memory_size", "set_calibration")  # fmt: skip
    for source in (*(ROOT / "export").rglob("*.py"), *(ROOT / "runtimes").rglob("*.py")):
        text = source.read_text(encoding="utf-8").replace("update_device_memory_size_for", "")
        assert not [word for word in gone if word in text], source


@pytest.mark.parametrize("surface", SURFACES, ids=lambda path: path.stem)
def test_a_method_that_is_removed_is_noticed(surface: Path) -> None:
    doctored = copy.deepcopy(names_of(surface))
    doctored["IExecutionContext"].remove("execute_async_v3")
    del doctored["BuilderFlag"]
    assert missing(wanted(surface), doctored) == [
        "BuilderFlag.TF32", "IExecutionContext.execute_async_v3",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "code",
    [
        "def f(engine: rt.ICudaEngine):\n    context = engine.create_execution_context()\n"
        "    context.execute_async_v3(0)\n",
        "def f(network: rt.INetworkDefinition):\n    return network.get_input(0).shape\n",
    ],
)
def test_what_cannot_be_followed_is_an_error(tmp_path: Path, code: str) -> None:
    (tmp_path / "code.py").write_text(code)
    with pytest.raises(UnfollowedError, match="name the type"):
        touched(tmp_path / "code.py")


def test_the_installed_bindings_are_their_surface() -> None:
    """Against the module itself where it is installed, so that no surface is made up."""
    if importlib.util.find_spec("tensorrt_rtx") is None:
        pytest.skip("TensorRT-RTX is not installed")
    import tensorrt_rtx

    for place in wanted(Path("rtx")):
        owner: object = tensorrt_rtx
        for part in place[1:]:
            owner = getattr(owner, part)


def test_cuda_python_has_what_is_called() -> None:
    """`CudaPython` calls the driver API by name; the module imports without a driver."""
    if importlib.util.find_spec("cuda") is None:
        pytest.skip("cuda-python is not installed")
    import re

    from cuda.bindings import driver

    text = (ROOT / "runtimes" / "tensorrt" / "cuda_bindings.py").read_text(encoding="utf-8")
    called = set(re.findall(r"driver\.(cu[A-Z]\w+|CU\w+)", text))
    assert len(called) > 20
    assert not [name for name in called if not hasattr(driver, name)]
    assert hasattr(driver.CUstreamCaptureMode, "CU_STREAM_CAPTURE_MODE_THREAD_LOCAL")
    assert hasattr(driver.CUresult, "CUDA_ERROR_OUT_OF_MEMORY")
    assert hasattr(driver.CUstream_flags, "CU_STREAM_NON_BLOCKING")
