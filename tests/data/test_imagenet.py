"""ImageNet's folders, generated here with real JPEG files, through the reader and the workflow's stages."""

import numpy as np
import pytest
from PIL import Image

from trakflow.config.compose import compose_config
from trakflow.config.running import Job
from trakflow.data import imagenet
from trakflow.errors import DataError
from trakflow.layout import Layout
from trakflow.stages.checkpoints import train_checkpoint
from trakflow.stages.featurize import featurize
from trakflow.stages.prepare import prepare_targets, prepare_train
from trakflow.store.array_file import ArrayFile

COLOURS = {"n01440764": (200, 30, 30), "n01443537": (30, 200, 30), "n02105855": (30, 30, 200)}
SIZES = [(70, 50), (50, 90), (64, 64), (41, 300)]


def save(path, colour, size, mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("RGB", size, colour)
    image.paste((255, 255, 255), (0, 0, 3, 3))
    image.convert(mode).save(path, "JPEG", quality=95)


@pytest.fixture
def folder(tmp_path):
    """Three classes of four images of other shapes, one of them grey; a validation set in folders."""
    for wnid, colour in COLOURS.items():
        for number, size in enumerate(SIZES):
            save(tmp_path / "train" / wnid / f"{wnid}_{number}.JPEG", colour, size, "L" if number == 3 else "RGB")
        for number in range(2):
            save(tmp_path / "val" / wnid / f"ILSVRC2012_val_{wnid}_{number}.JPEG", colour, (80, 60))
    (tmp_path / "train" / "n01440764" / "notes.txt").write_text("not an image")
    return tmp_path


def test_images_are_bytes_with_the_label_of_their_folder_in_an_order_of_their_own(folder):
    found = imagenet.train(str(folder), 12, side=32)
    assert len(found.ids) == len(set(found.ids)) == 12
    images, labels = found.arrays["inputs"][:], found.arrays["labels"]
    assert images.dtype == np.uint8
    assert images.shape == (12, 3, 32, 32)
    assert sorted(labels) == [0] * 4 + [1] * 4 + [2] * 4
    assert labels.tolist() != sorted(labels)
    for image, label, name in zip(images, labels, found.ids, strict=True):
        wnid, _, number = name.partition("_")
        assert label == sorted(COLOURS).index(wnid)
        # The white corner was cut off, and one image of each class is grey.
        assert image.reshape(3, -1).std(axis=1).max() < 4
        if number != "3":
            assert image.reshape(3, -1).mean(axis=1) == pytest.approx(COLOURS[wnid], abs=4)
        else:
            assert np.ptp(image, axis=0).max() == 0
    fewer = imagenet.train(str(folder), 5, side=32)
    assert list(fewer.ids) == list(found.ids)[:5]
    np.testing.assert_array_equal(fewer.arrays["inputs"][:], images[:5])


def test_the_shorter_edge_is_resized_and_the_middle_cut(tmp_path):
    # Left half black, right half white, and a wide frame above and below that the crop leaves out.
    picture = np.zeros((256, 512, 3), np.uint8)
    picture[:, 256:] = 255
    (tmp_path / "train" / "n1").mkdir(parents=True)
    Image.fromarray(picture).save(tmp_path / "train" / "n1" / "a.JPEG", quality=100)
    image = imagenet.train(str(tmp_path), 1, side=224).arrays["inputs"][:][0, 0]
    expected = picture[16:240, 144:368, 0]
    assert np.abs(image.astype(int) - expected).max() <= 2


def test_a_flat_validation_folder_has_its_labels_from_a_csv(folder):
    table = folder / "LOC_val_solution.csv"
    lines = ["ImageId,PredictionString"]
    for path in sorted((folder / "val").glob("*/*.JPEG")):
        lines.append(f"{path.stem},{path.parent.name} 1 2 3 4 {path.parent.name} 5 6 7 8")
        path.rename(folder / "val" / path.name)
    by_folder = {line.split(",")[0]: sorted(COLOURS).index(line.split(",")[1].split()[0]) for line in lines[1:]}
    table.write_text("\n".join(lines))
    with pytest.raises(DataError, match=r"no images in folders.*data\.targets\.labels"):
        imagenet.targets(str(folder), 6, side=32)
    found = imagenet.targets(str(folder), 6, side=32, labels=str(table))
    assert dict(zip(found.ids, found.arrays["labels"].tolist(), strict=True)) == by_folder
    table.write_text("\n".join([*lines, "ILSVRC2012_val_unknown,n01440764 1 2 3 4"]))
    with pytest.raises(DataError, match="ILSVRC2012_val_unknown n01440764"):
        imagenet.targets(str(folder), 6, side=32, labels=str(table))
    with pytest.raises(DataError, match=r"nowhere\.csv.*do not exist"):
        imagenet.targets(str(folder), 6, side=32, labels="nowhere.csv")


def test_what_is_not_there_or_no_image_is_refused_with_its_path(folder, tmp_path):
    with pytest.raises(DataError, match=r"nowhere/train holds no folders.*data\.train\.folder"):
        imagenet.train(str(tmp_path / "nowhere"), 1)
    with pytest.raises(DataError, match="13 images were asked for, but this part of ImageNet has 12"):
        imagenet.train(str(folder), 13)
    path = folder / "train" / "n02105855" / "n02105855_1.JPEG"
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(DataError, match=r"n02105855_1\.JPEG cannot be read as an image"):
        imagenet.train(str(folder), 12, side=32).arrays["inputs"][:]


def test_resnet18_trains_and_featurizes_on_the_bytes(folder, tmp_path):
    config = compose_config(
        "imagenet",
        [
            f"data.train.folder={folder}",
            "data.train_size=12",
            "data.target_count=6",
            "data.num_classes=3",
            "data.train.side=32",
            "figures.shown_target=0",
            "shards=2",
            "training.epochs=1",
            "training.batch_size=4",
            "training.learning_rate=0.001",
            "sketch.k=16",
            "sketch.dtype=float32",
            "runtime.device=cpu",
            "runtime.memory_mb=2000",
            "scores.topk=2",
            "evaluation=none",
            "checkpoints.count=1",
        ],
    )
    layout = Layout(str(tmp_path / "results"))
    for stage, job in (
        (prepare_train, {}),
        (prepare_targets, {}),
        (train_checkpoint, {"checkpoint": 0}),
        (featurize, {"checkpoint": 0, "shard": 1}),
    ):
        stage(config.model_copy(update={"job": Job(**job)}), layout)
    data, features = ArrayFile(layout.train), ArrayFile(layout.features(0, 1))
    assert data.read("inputs").dtype == np.uint8
    assert features.read("features").shape == (6, 16)
    assert np.abs(features.read("features")).max() > 0
