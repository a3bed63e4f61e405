"""Pictures with colour and alpha, in memory or written while they are made."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from ramedge.media.image_writer import check_output, takes_strips, write_image, write_strips
from ramedge.media.images import Picture
from ramedge.media.pixels import Pixels, plane_of, three_of
from ramedge.upscaling.upscaler import Upscaler


def upscale_to_file(picture: Picture, upscaler: Upscaler, target: Path) -> tuple[str, ...]:
    """Upscale and write a picture; large ones strip by strip where the format allows.

    Returns:
        What a user should know of the file, one line each.

    Raises:
        OutputError: the format cannot hold the result, or it cannot be written.
        MemoryError: the smallest tiles need too much.
    """
    height, width = picture.color.shape[:2]
    check_output(target, height * upscaler.scale, width * upscaler.scale)
    if takes_strips(target) and upscaler.should_stream(picture.color, len(_images(picture))):
        return _write_in_strips(picture, upscaler, target)
    return write_image(upscale_picture(picture, upscaler), target)


def upscale_picture(picture: Picture, upscaler: Upscaler) -> Picture:
    """Upscale colour and alpha; depth, greyness and metadata stay."""
    if picture.grey:
        plane = upscaler.upscale_plane(picture.color[:, :, 0])
        color: Pixels = plane[:, :, None].repeat(3, axis=2)
    else:
        color = upscaler.upscale(picture.color)
    upscaler.cut()
    alpha = None if picture.alpha is None else upscaler.upscale_plane(picture.alpha)
    return Picture(
        color=color, alpha=alpha, grey=picture.grey, metadata=picture.metadata, notes=picture.notes
    )


def _write_in_strips(picture: Picture, upscaler: Upscaler, target: Path) -> tuple[str, ...]:
    """Upscale and write strip by strip."""
    height = picture.color.shape[0] * upscaler.scale

    def write(bands: Sequence[Iterator[Pixels]]) -> tuple[str, ...]:
        return write_strips(_strips(picture, bands), height, target)

    notes = upscaler.stream(_images(picture), write)
    return (*notes, "Written while it was made: the result never stood in memory whole.")


def _images(picture: Picture) -> list[Pixels]:
    """What is upscaled of a picture: the colours, and the alpha as three equal channels."""
    return [picture.color] + ([] if picture.alpha is None else [three_of(picture.alpha)])


def _strips(picture: Picture, bands: Sequence[Iterator[Pixels]]) -> Iterator[Picture]:
    """Strips of the upscaled picture, from the bands of its images."""
    for color, *alpha in zip(*bands, strict=True):
        yield Picture(
            three_of(plane_of(color)) if picture.grey else color,
            plane_of(alpha[0]) if alpha else None,
            picture.grey,
            picture.metadata,
        )
