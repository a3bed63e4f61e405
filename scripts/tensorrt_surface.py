"""Write the names that a version of TensorRT's Python API has, without the library or a GPU.

    python scripts/tensorrt_surface.py WHEEL OUTPUT.json
    python scripts/tensorrt_surface.py tensorrt_rtx OUTPUT.json     # an installed module

The wheels are `tensorrt-cu13-bindings` and `tensorrt-cu12-bindings` of PyPI, for this Python. They
import over three stub libraries that are made here with gcc: only names are looked at.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

STUBS = ("nvinfer", "nvonnxparser", "nvinfer_plugin")
SYMBOLS = (
    "createInferBuilder_INTERNAL", "createInferRefitter_INTERNAL", "createInferRuntime_INTERNAL",
    "createNvOnnxParserRefitter_INTERNAL", "createNvOnnxParser_INTERNAL",
    "getBuilderPluginRegistry", "getNvOnnxParserVersion", "getPluginRegistry",
    "initLibNvInferPlugins",
)  # fmt: skip

DUMP = """
import importlib, json, sys
module = importlib.import_module(sys.argv[1])
names = {}
def public(owner, n):
    # `name` and `value` belong to every enumeration; elsewhere they are properties of the API.
    own = n not in {"name", "value"} or not hasattr(owner, "__members__")
    return own and not n.startswith("_")
def look(path, owner):
    names[path] = sorted(n for n in dir(owner) if public(owner, n))
    for n in list(names[path]):
        inner = getattr(owner, n, None)
        if isinstance(inner, type) and inner.__module__.startswith(module.__name__.split(".")[0]):
            if inner is not owner and len(path) < 60 and path.count(".") < 2:
                look(f"{path}.{n}" if path else n, inner)
look("", module)
members = {p: n for p, n in names.items() if n and (p == "" or not p[0].islower())}
print(json.dumps({"version": module.__version__, "names": members}))
"""


def surface(source: str) -> dict[str, object]:
    """`{"version": …, "names": {"": module's names, "Builder": its names, …}}`."""
    if not source.endswith(".whl"):
        return _dump(source, dict(os.environ))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with zipfile.ZipFile(source) as wheel:
            wheel.extractall(folder)
        library = next(folder.glob("*/tensorrt.so"))
        needed = {word.decode() for word in library.read_bytes().split(b"\0") if b".so." in word}
        code = folder / "stub.c"
        code.write_text("".join(f"void *{symbol}(void) {{ return 0; }}\n" for symbol in SYMBOLS))
        for stub in STUBS:
            target = next(word for word in needed if word.startswith(f"lib{stub}.so."))
            options = ["-shared", "-fPIC", f"-Wl,-soname,{target}", "-o", folder / target]
            subprocess.run(["gcc", *options, code], check=True)  # noqa: S603, S607  # a build tool
        paths = {"LD_LIBRARY_PATH": name, "PYTHONPATH": name}
        return _dump(library.parent.name, os.environ | paths)


def _dump(module: str, environment: dict[str, str]) -> dict[str, object]:
    done = subprocess.run(  # noqa: S603  # this Python, the program above
        [sys.executable, "-c", DUMP, module],
        env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    found: dict[str, object] = json.loads(done.stdout)
    return found


def main() -> None:
    """Write one file."""
    source, output = sys.argv[1:]
    found = surface(source)
    names: dict[str, list[str]] = found["names"]  # type: ignore[assignment]
    lines = [f"  {json.dumps(name)}: {json.dumps(names[name])}" for name in sorted(names)]
    head = f'{{"version": {json.dumps(found["version"])}, "names": {{\n'
    Path(output).write_text(head + ",\n".join(lines) + "\n}}\n")  # one class a line


if __name__ == "__main__":
    main()
