from __future__ import annotations

from pathlib import Path

import pytest

from ramedge.errors import OutputError
from ramedge.files import check_writable

pytestmark = pytest.mark.base


def test_a_folder_to_be_made_is_no_obstacle_and_is_not_made(tmp_path: Path) -> None:
    check_writable(tmp_path / "new" / "deeper" / "a.png")
    assert not list(tmp_path.iterdir())


def test_a_file_where_a_folder_should_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "file.png").touch()
    with pytest.raises(OutputError, match=r"file\.png is a file"):
        check_writable(tmp_path / "file.png" / "x.png")


def test_a_folder_that_may_not_be_written_to_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ramedge.files.os.access", lambda _path, _mode: False)
    with pytest.raises(OutputError, match="may not be written to"):
        check_writable(tmp_path / "x.png")


def test_unwritable_outputs_are_refused_before_any_work(ramedge, tmp_path: Path, photo) -> None:
    from PIL import Image

    Image.fromarray(photo).save(tmp_path / "a.png")
    (tmp_path / "file.png").touch()
    ended = ramedge("upscale", tmp_path / "a.png", "-o", tmp_path / "file.png" / "x.png")
    assert ended.code == 1
    assert "is a file. Choose another with -o" in ended.error
