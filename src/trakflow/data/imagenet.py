"""ImageNet (ILSVRC 2012; Russakovsky et al. 2015) as its users have it: folders of JPEG files.

The folder holds `train/<wnid>/*.JPEG`, and `val/<wnid>/*.JPEG` or `val/*.JPEG` with a csv of its labels. Nothing is
downloaded: the data set is given out on request only. Images are decoded as they are written to disk, and stay bytes.
"""

import csv
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from trakflow.data.examples import Examples
from trakflow.data.streamed import StreamedRows
from trakflow.errors import DataError
from trakflow.seeds import generator

SUFFIXES = (".jpeg", ".jpg", ".png")
# The shorter edge is resized to so many times the side that is then cut from the middle: 256 for 224.
MARGIN = 256 / 224
# Pixels of an image, as it is and resized; one that says that it has more is taken for damaged.
LARGEST = 100_000_000


def train(folder: str, size: int, side: int = 224) -> Examples:
    """Return `size` training images drawn once and for all.

    Args:
        folder: Holds `train`, with a folder of images for each class.
        size: How many; the draw for a smaller size is the beginning of that for a larger one.
        side: Pixels of an image's height and width: its shorter edge is resized to 256/224 of it and the middle is cut.

    Returns:
        inputs (size x 3 x side x side, uint8), made when they are written, and labels: the place of an image's wnid
        among the sorted ones, as everyone numbers the classes.

    Raises:
        DataError: The folder is of another form or holds fewer images; or, later, a file is no image.
    """
    classes = _classes(folder)
    return _drawn("train", _by_class(Path(folder) / "train", classes), size, side)


def targets(folder: str, size: int, side: int = 224, labels: str | None = None) -> Examples:
    """Return `size` validation images drawn once and for all.

    Args:
        folder: Holds `train`, whose folders name the classes, and `val`, with folders likewise or flat.
        size: How many.
        side: As for `train`.
        labels: Where `val` is flat, a csv of one line an image: its file name (with or without suffix) and first wnid,
            with or without a heading, for example `LOC_val_solution.csv`.

    Returns:
        As `train`.

    Raises:
        DataError: As `train`; or `labels` is missing where `val` is flat, or names an unknown image or class.
    """
    classes, place = _classes(folder), Path(folder) / "val"
    found = _by_class(place, classes) if labels is None else _by_csv(place, Path(labels), classes)
    return _drawn("val", found, size, side)


def _classes(folder: str) -> dict[str, int]:
    place = Path(folder) / "train"
    names = sorted(entry.name for entry in place.iterdir() if entry.is_dir()) if place.is_dir() else []
    if not names:
        raise DataError(
            f"{place} holds no folders, one a class (looked from {Path.cwd()}); set data.train.folder to the folder "
            "that holds ImageNet's `train` and `val`."
        )
    return {name: number for number, name in enumerate(names)}


def _by_class(place: Path, classes: dict[str, int]) -> list[tuple[Path, int]]:
    found = [
        (path, number)
        for name, number in classes.items()
        if (place / name).is_dir()
        for path in sorted((place / name).iterdir())
        if path.suffix.lower() in SUFFIXES
    ]
    if not found:
        raise DataError(
            f"{place} holds no images in folders named as those of `train`. If its images lie in it without folders, "
            "set data.targets.labels to the csv of their labels."
        )
    return found


def _by_csv(place: Path, table: Path, classes: dict[str, int]) -> list[tuple[Path, int]]:
    images = {path.stem: path for path in place.iterdir() if path.suffix.lower() in SUFFIXES} if place.is_dir() else {}
    if not table.is_file() or not images:
        raise DataError(f"data.targets.labels: {table} or the images in {place} do not exist (from {Path.cwd()}).")
    with table.open(encoding="utf8", newline="") as file:
        try:
            lines = [row for row in csv.reader(file) if len(row) > 1 and row[1].split()]
        except (ValueError, csv.Error) as error:
            raise DataError(f"data.targets.labels: {table} cannot be read as a csv ({error}).") from error
    rows = [(Path(row[0]).stem, row[1].split()[0]) for row in lines]
    # A heading names no image.
    rows = rows[1:] if rows and rows[0][0] not in images else rows
    strange = [f"{image} {name}" for image, name in rows if image not in images or name not in classes]
    if strange or not rows:
        raise DataError(
            f"{table} names images that {place} does not hold, or classes that `train` does not: "
            f"{', '.join(strange[:3]) or 'it is empty'}."
        )
    return sorted((images[image], classes[name]) for image, name in rows)


def _drawn(part: str, found: Sequence[tuple[Path, int]], size: int, side: int) -> Examples:
    if size > len(found):
        raise DataError(f"{size} images were asked for, but this part of ImageNet has {len(found)} here.")
    chosen = [found[row] for row in generator("imagenet", part).permutation(len(found))[:size]]
    paths = [path for path, _ in chosen]
    inputs = StreamedRows((size, 3, side, side), np.dtype(np.uint8), partial(_decode_all, paths, side))
    labels = np.array([label for _, label in chosen], dtype=np.int64)
    return Examples({"inputs": inputs, "labels": labels}, [path.stem for path in paths])


def _decode_all(paths: Sequence[Path], side: int, first: int, last: int) -> UInt8[np.ndarray, "rows 3 side side"]:
    images = np.empty((last - first, 3, side, side), np.uint8)
    # Pillow decodes outside Python's lock.
    with ThreadPoolExecutor(_processors()) as pool:
        for row, image in enumerate(pool.map(partial(_decode, side=side), paths[first:last])):
            images[row] = image
    return images


def _processors() -> int:
    # What this job may use, on systems that say so.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _decode(path: Path, side: int) -> UInt8[np.ndarray, "3 side side"]:
    from PIL import Image

    try:
        # One of the published files is a PNG by another name. Other formats are none of ImageNet's, and their readers
        # need not meet what someone else has put there.
        with Image.open(path, formats=["JPEG", "PNG"]) as picture:
            edge = round(side * MARGIN)
            scale = edge / min(picture.size)
            width, height = (max(edge, round(length * scale)) for length in picture.size)
            if max(width * height, picture.width * picture.height) > LARGEST:
                raise ValueError(f"it has {picture.width} x {picture.height} pixels")
            # A few files are grey or CMYK.
            image = picture.convert("RGB").resize((width, height), Image.Resampling.BILINEAR)
    except Exception as error:
        # Pillow's decoders have no error of their own for damage.
        raise DataError(f"{path} cannot be read as an image ({error}); replace it by a whole copy.") from error
    left, upper = (width - side) // 2, (height - side) // 2
    return np.asarray(image.crop((left, upper, left + side, upper + side))).transpose(2, 0, 1)
