"""The page in a real browser, without a network."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ramedge.bench.quality import Pictures
from ramedge.bench.report import render, write_report
from ramedge.bench.result import BenchResult

HOSTILE = "</script><script>document.title='owned'</script><img src=x onerror=alert(1)>"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
QUIET = (
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="no playwright: .[dev] has it")
    system = next(filter(None, map(shutil.which, BROWSERS)), None)
    with playwright.sync_playwright() as started:
        own = Path(started.chromium.executable_path)
        if system is None and not own.is_file():
            pytest.skip("no browser: install chromium, or run playwright install chromium")
        # Chromium's sandbox does not run as root, as continuous integration often does.
        root = hasattr(os, "geteuid") and os.geteuid() == 0
        opened = started.chromium.launch(
            executable_path=system, args=[*QUIET, *(["--no-sandbox"] if root else [])]
        )
        yield opened
        opened.close()


@pytest.fixture
def page_file(result: BenchResult, pictures: list[Pictures], row, tmp_path: Path) -> Path:
    bad = row("openvino", model=HOSTILE, failure=f"A tint on {HOSTILE}")
    path = tmp_path / "page.html"
    hostile = replace(result, rows=(*result.rows, bad), notes=(HOSTILE,), command=HOSTILE)
    write_report(path, hostile, pictures)
    return path


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_works_and_fits(browser: Any, page_file: Path, width: int, scheme: str) -> None:
    page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    troubles: list[str] = []
    requests: list[str] = []
    page.on("console", lambda message: troubles.append(message.text))
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(page_file.as_uri())
    page.wait_for_function("document.getElementById('difference-caption').textContent")

    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert page.title() == "ramedge bench"
    assert page.locator("#notes li.bad").count() == 1
    assert page.locator("svg circle").count() == 4
    assert page.locator(".charts .bar").count() == 4
    assert page.locator("table tbody tr").count() > 10
    text, ground = page.evaluate(
        "[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]"
    )
    brightness = [sum(map(int, c[4:-1].split(","))) for c in (text, ground)]
    assert (brightness[0] > brightness[1]) == (scheme == "dark")

    slider = page.locator("#slider")
    box = slider.bounding_box()
    slider.click(position={"x": 0.2 * box["width"], "y": box["height"] / 2})
    box = slider.bounding_box()  # the page may have scrolled
    assert float(slider.input_value()) == pytest.approx(20, abs=4)
    line = page.locator("#line").bounding_box()
    assert line["x"] == pytest.approx(box["x"] + 0.2 * box["width"], abs=0.05 * box["width"])
    slider.press("ArrowRight")
    assert page.locator("#compare").evaluate("e => e.style.getPropertyValue('--share')") == (
        f"{slider.input_value()}%"
    )

    assert troubles == []
    assert {url.partition(":")[0] for url in requests} <= {"file", "data"}
    page.close()


def test_the_difference_is_amplified(browser: Any, page_file: Path) -> None:
    page = browser.new_page()
    page.goto(page_file.as_uri())
    page.select_option("#left", label="PyTorch fp32")
    page.select_option("#right", label="OpenVINO fp16")
    page.select_option("#gain", label="64")
    page.wait_for_function(
        "document.getElementById('difference-caption').textContent.includes('64; the largest is 3')"
    )
    levels = page.evaluate(
        "(() => { const c = document.getElementById('difference');"
        "return [...c.getContext('2d').getImageData(5, 5, 1, 1).data]; })()"
    )
    assert levels == [192, 192, 192, 255]  # 3 levels × 64
    page.close()


def test_data_never_becomes_markup(result: BenchResult) -> None:
    html = render(replace(result, command=HOSTILE), [])
    assert HOSTILE not in html
    assert html.count("<script") == 2
    assert "http" not in html.replace("http-equiv", "").replace("http://www.w3.org/2000/svg", "")
