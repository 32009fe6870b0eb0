"""Captions of the paper's figures name what each of them is drawn from."""

import pytest

from trakflow.config.compose import compose_config
from trakflow.figures.captions import caption

FACTS = {
    "experiment": "one", "machine": "a machine", "threads": 1, "seconds": 0.5, "passes": 7, "repeats": 3,
    "parameters": 1234,
}  # fmt: skip


def lines_of(name, experiment="digits", *overrides):
    return caption(name, compose_config(experiment, overrides), FACTS).splitlines()


def test_removal_is_of_targets_and_their_retrains_and_the_lds_of_subsets():
    removal, checkpoints = (
        lines_of(name, "digits", "removal.targets=20", "removal.retrains=4")
        for name in ("removal", "lds_vs_checkpoints")
    )
    assert "20 targets with 4 retrains each. Intervals: 95% bootstrap (1,000 resamples) over targets." in removal
    assert not any("subsets" in line for line in removal)
    assert "LDS over 100 subsets with 3 retrains each." in checkpoints
    assert "Intervals: 95% bootstrap (1,000 resamples) over targets and subsets." in checkpoints


@pytest.mark.parametrize(
    "name", ["lds_vs_compute", "lds_vs_checkpoints", "sketches", "ablation", "cheap_checkpoints", "removal", "gallery"]
)
def test_data_model_and_its_size_checkpoints_seed_and_machine_are_in_all(name):
    text = "\n".join(lines_of(name, "cifar2", "paper=cifar2", "seed=7"))
    for fact in (
        "2,000 training examples by cifar10.train(size=2000, classes=[3, 5])",
        "300 targets",
        "resnet9.ResNet9(outputs=2, width=8), 1,234 trained parameters",
        "10 checkpoints, each trained on 0.5 of the data",
        "seed 7",
        "Machine: a machine, 1 thread(s) a job.",
    ):
        assert fact in text, (name, fact)
    assert "results/" not in text


def test_other_methods_stand_with_their_own_k_and_only_where_they_are_drawn():
    compute, checkpoints, ablation, gallery = (
        lines_of(name, "cifar2", "paper=cifar2")
        for name in ("lds_vs_compute", "lds_vs_checkpoints", "ablation", "gallery")
    )
    (methods,) = (line for line in compute if line.startswith("Other methods"))
    assert "EK-FAC, traker (k = 128), dattri (k = 128), empirical influence, datamodel, random" in methods
    (methods,) = (line for line in checkpoints if line.startswith("Other methods"))
    assert methods.endswith("dattri (k = 128).")
    assert not any("Other methods" in line for line in (*ablation, *gallery))
    assert not any("LDS" in line or "ntervals" in line for line in gallery)


def test_further_k_of_trak_stand_where_they_are_drawn():
    compute, checkpoints, without = (
        lines_of(name, "cifar2", "paper=cifar2", f"paper.trak_k={further}")
        for name, further in (
            ("lds_vs_compute", [128, 1024]),
            ("lds_vs_checkpoints", [128, 1024]),
            ("lds_vs_compute", []),
        )
    )
    assert "TRAK: sketch tensor_sketch with k = 2,048, and 128 and 1,024 where the legend says so." in compute
    assert "TRAK: sketch tensor_sketch with k = 2,048." in checkpoints
    assert "TRAK: sketch tensor_sketch with k = 2,048." in without


def test_of_exchanged_labels_the_part_and_the_seed_are_said():
    text = "\n".join(lines_of("mislabel", "fashion_mnist_mislabelled"))
    data = "mislabelled.mislabelled(examples=fashion_mnist.train(size=2000), num_classes=10, fraction=0.1, seed=0)"
    assert data in text
    assert "Intervals: 95% bootstrap (1,000 resamples) over training examples." in text


def test_methods_of_fewer_checkpoints_say_so_where_the_most_of_each_are_drawn():
    (methods,) = (
        line
        for line in lines_of(
            "mislabel", "fashion_mnist_mislabelled", "paper=fashion_mnist_mislabelled", "+paper.counts.ekfac=[2]"
        )
        if line.startswith("Other methods")
    )
    assert "EK-FAC (2 checkpoints), " in methods
    assert "TracIn, " in methods
    (methods,) = (line for line in lines_of("removal", "digits", "paper=digits") if "Other methods" in line)
    assert "influence function (CG) (1 checkpoint), " in methods


def test_of_models_that_methods_are_fitted_on_the_number_is_said_wherever_they_are_drawn():
    text = "\n".join(lines_of("mislabel", "fashion_mnist_mislabelled", "paper=fashion_mnist_mislabelled"))
    assert "Fitted on retrained models: up to 500 further subsets, 1 model(s) each." in text


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ((), "the ridge that the self-LDS chose"),
        (("solver.ridge=0.25",), "a ridge of 0.25 (relative)"),
        (("checkpoints.trained_on=everything",), "a relative ridge of 1"),
    ],
)
def test_the_ridge_is_said_as_it_was_found(overrides, said):
    for name in ("sketches", "ablation"):
        assert said in lines_of(name, "digits", "paper=digits", *overrides)[0]


def test_of_checkpoints_that_were_brought_no_part_is_invented():
    brought = ("checkpoints.count=null", "checkpoints.files=[a.pt,b.pt]", "checkpoints.masks=m.npy")
    text = "\n".join(lines_of("mislabel", "digits_mislabelled", *brought))
    assert "2 checkpoints, brought, and each trained on a part of the data" in text
    assert "0.5" not in text
