from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import faulthandler, signal
import numpy as np
from ramedge import Upscaler

faulthandler.enable()
first, second = Upscaler(), Upscaler()
pixels = np.zeros((8, 8, 3), np.uint8)
first.upscale(pixels), second.upscale(pixels)
first.close()
del first
second.close()
del second
try:
    signal.raise_signal(signal.SIGINT)
except KeyboardInterrupt:
    print("interrupted")
"""


def test_ctrl_c_survives_upscalers_that_end_in_any_order() -> None:
    """OpenVINO takes the thread's signal stack with a core and may leave a dead one behind."""
    done = subprocess.run(
        # SIGINT as a terminal has it, be it ignored by whoever started the tests.
        [sys.executable, "-c", "import signal\n"
         "signal.signal(signal.SIGINT, signal.default_int_handler)\n" + PROGRAM],
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.stdout.strip() == "interrupted", (done.returncode, done.stderr)
