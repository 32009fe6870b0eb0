import json

import pytest

from trakflow.config.compose import compose_config
from trakflow.config.stages import VERSIONS, stage_settings

TRAINED = {"train_checkpoint", "retrain", "retrain_on_all", "retrain_without"}
GRADIENTS = {"featurize", "featurize_targets", "import_features"}
MODEL = {*TRAINED, *GRADIENTS, "import_checkpoint", "retrained_outputs", "forward_backward"}

LDS = {"evaluate", "variant", "ablate"}
INTERVALS = {*LDS, "evaluate_removal", "evaluate_mislabel"}
COUNTED = {"evaluate", "compute"}

# One changed setting, and the stages that must run again for it and not for what they read of others' files.
CHANGES = {
    "seed=1": {*TRAINED, *GRADIENTS, "subsets", "remove", *INTERVALS},
    "data.train_size=1000": {"prepare_train", "train_checkpoint", "import_mask", "subsets"},
    "data.target_count=20": {"prepare_targets"},
    "+data.train.folder=x": {"prepare_train"},
    "+data.targets.folder=x": {"prepare_targets"},
    "data.files=[x]": set(),
    "data.num_classes=11": {"prepare_train", "prepare_targets", *MODEL},
    "data.class_names=[a,b,c,d,e,f,g,h,i,j]": {"figures"},
    "model.widths=[5]": MODEL,
    "+task.temperature=2": MODEL - {"import_checkpoint"},
    "training.epochs=31": TRAINED,
    "training.batch_size=33": TRAINED,
    "training.learning_rate=0.06": TRAINED,
    "training.momentum=0.8": TRAINED,
    "training.weight_decay=0": TRAINED,
    "training.schedule=cosine": TRAINED,
    "training.ensemble=false": set(),
    "checkpoints.count=11": {*COUNTED, "variant"},
    "checkpoints.trained_on=everything": {"train_checkpoint", "choose_ridge"},
    "checkpoints.fraction=0.6": {"train_checkpoint"},
    "targets.output=3": {"prepare_targets"},
    "targets.output=predicted": {"prepare_targets"},
    "features_from=elsewhere": {"import_features"},
    "sketch.k=256": GRADIENTS,
    "sketch.parameters=['*.weight']": GRADIENTS,
    "sketch=gaussian": GRADIENTS,
    "sketch.dtype=float16": GRADIENTS,
    "solver.weights=off": {"finalize"},
    "solver.ridge=0.5": {"choose_ridge"},
    "solver.ridge_grid.points=9": {"choose_ridge"},
    "scores.topk=7": {"score"},
    "scores.groups=labels": {"score"},
    "evaluation.subsets=90": LDS,
    "evaluation.retrains=4": LDS,
    "evaluation.fraction=0.4": {"subsets"},
    "evaluation.models_per_batch=25": set(),
    "evaluation.checkpoint_counts=[1]": {*COUNTED, "variant"},
    "evaluation.checkpoint_counts=[10,5,2,1,99]": set(),
    "evaluation.bootstrap=500": INTERVALS,
    "evaluation.confidence=0.9": INTERVALS,
    "removal.counts=[5]": {"evaluate_removal"},
    "removal.targets=7": {"evaluate_removal"},
    "removal.retrains=1": {"evaluate_removal"},
    "figures.font_size=8": {"figures"},
    "figures.dpi=80": {"figures"},
    "figures.palette=['#ff0000']": {"figures"},
    "figures.gallery_targets=3": set(),
    "figures.shown_target=3": set(),
    "shards=3": set(),
    "runtime.device=cuda": set(),
    "runtime.batch_size=7": set(),
    "runtime.threads=2": set(),
    "runtime.memory_mb=500": set(),
    "runtime.minutes=5": set(),
    "runtime.repeats=3": set(),
    "job.checkpoint=3": set(),
    "job.results=elsewhere": set(),
}


def changed(before, after):
    return {stage for stage in VERSIONS if stage_settings(before, stage) != stage_settings(after, stage)}


@pytest.mark.parametrize("override", CHANGES)
def test_a_changed_setting_reaches_exactly_the_stages_that_read_it(override):
    assert changed(compose_config("digits"), compose_config("digits", [override])) == CHANGES[override]


def test_what_is_read_only_under_another_setting_matters_only_then():
    everything, given = ["checkpoints.trained_on=everything"], ["solver.ridge=0.5"]
    predicted, files = ["targets.output=predicted"], ["evaluation=files", "evaluation.masks=a", "evaluation.outputs=b"]
    groups = ["scores.groups=labels"]
    for base, override, expected in (
        (groups, "data.class_names=[a,b,c,d,e,f,g,h,i,j]", {"score", "figures"}),
        (everything, "checkpoints.fraction=0.6", set()),
        (given, "solver.ridge_unit=absolute", {"choose_ridge"}),
        (given, "solver.ridge_grid.points=9", set()),
        (given, "checkpoints.trained_on=everything", {"train_checkpoint"}),
        (predicted, "model.widths=[5]", {"prepare_targets", *MODEL}),
        (files, "evaluation.outputs=c", LDS),
        (files, "evaluation.retrains=5", set()),
        (["paper=quick"], "paper.ridges.points=3", set()),
        (["paper=quick"], "paper.sketches.sjlt=[64]", {"draw_paper"}),
        (["paper=quick"], "paper.trak_k=[64]", {"compute"}),
        (["paper=quick", "~paper.peer_k"], "sketch.k=256", {*GRADIENTS, "ablate", "attribute"}),
    ):
        before, after = compose_config("digits", base), compose_config("digits", [*base, override])
        assert changed(before, after) == expected, (base, override)


def test_settings_are_json_and_carry_the_version_of_the_code():
    config = compose_config("digits")
    for stage, version in VERSIONS.items():
        settings = stage_settings(config, stage)
        assert settings["version"] == version
        assert json.loads(json.dumps(settings)) == settings
