"""From what lies in a save_dir to kernels and scores."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from trakflow.config.stages import VERSIONS
from trakflow.errors import ConfigError, StoreError
from trakflow.features import FeatureSet
from trakflow.kernel_file import is_kernel_of, make_kernel, read_kernel, write_kernel
from trakflow.scoring import CheckpointParts, score_blocks
from trakflow.store.array_file import ArrayFile, require_agreement
from trakflow.store.files import write_json
from trakflow.store.numpy_files import numpy_file
from trakflow.traker.finalizing import MissingRowsError, is_packed, pack_features, pack_targets
from trakflow.traker.folder import SaveDir

DEFAULT_RELATIVE_RIDGE = 1.0
# Bound on blocks of scores, and again on what is held of all models for their targets.
SCORING_BYTES = 1 << 28

log = logging.getLogger("trakflow")


class NotReadyError(Exception):
    """A model lacks what scoring needs of it; says what to call."""


class Ridge(NamedTuple):
    """A ridge: in units of the mean diagonal of the Gram matrix (`relative`), or as it is (`absolute`)."""

    value: float
    unit: str


def choose_ridge(lambda_reg: float | None, relative: float | None, k: int, n: int, unit: float) -> Ridge:
    """Read the two arguments that say what is added to the Gram matrix.

    Args:
        lambda_reg: In the unit of the paper's library, or None.
        relative: Relative, or None.
        k: Number of features.
        n: Number of training examples.
        unit: What a ridge of 1 in the library's unit is to our Gram matrix.

    Raises:
        ConfigError: A number is negative, both are given, or a ridge of 0 leaves no unique solution.
    """
    for name, value in (("lambda_reg", lambda_reg), ("relative_ridge", relative)):
        if value is not None and not 0 <= value < float("inf"):
            raise ConfigError(f"{name}={value} must be a number of at least zero.")
    if lambda_reg is not None and relative is not None:
        raise ConfigError("Give lambda_reg or relative_ridge, not both.")
    if 0 in (lambda_reg, relative) and k >= n:
        raise ConfigError(
            f"A ridge of 0 needs fewer features (proj_dim={k}) than training examples ({n}), or the system has no "
            "unique solution. Choose a smaller proj_dim, a positive lambda_reg, or leave lambda_reg out."
        )
    if lambda_reg is not None:
        return Ridge(float(lambda_reg) * unit, "absolute")
    return Ridge(DEFAULT_RELATIVE_RIDGE if relative is None else float(relative), "relative")


def _require_this_version(features: FeatureSet) -> None:
    made, now = features.provenance["version"], VERSIONS["featurize"]
    if made != now:
        raise StoreError(
            f"The features in {features.files[0].path.parent} were made by version {made} of trakflow's featurizing, "
            f"and this is version {now}; its target features would not fit them. Featurize again, in another save_dir "
            "or by running the workflow again."
        )


@dataclass(frozen=True)
class Solver:
    """Makes kernels and scores of the models in a save_dir.

    Attributes:
        save_dir: The folder.
        n: Number of training examples.
        weighted: Whether W weights the rows of the Gram matrix.
        ridge: What is added to it.
        settings: What features depend on, for provenance.
    """

    save_dir: SaveDir
    n: int
    weighted: bool
    ridge: Ridge
    settings: dict[str, Any]

    def finalize(self, model_id: int) -> None:
        """Pack a model's features and factor their Gram matrix, as far as that has not been done.

        Raises:
            MissingRowsError: Examples have not been featurized.
            NumericalError: The Gram matrix cannot be factored, or has no inverse with a ridge of 0.
        """
        features = pack_features(self.save_dir, model_id, self.n, self.weighted, self.settings)
        if self._kernel_path(features) is not None:
            log.info("model_id=%d is finalized already.", model_id)
            return
        kernel = make_kernel(features)
        kernel.require_solvable(kernel.ridge(*self.ridge))
        write_kernel(self.save_dir.kernel(model_id), kernel, features, {"stage": "finalize"})

    def features(self, model_id: int) -> FeatureSet:
        """Return the features of a model that has been finalized.

        Raises:
            NotReadyError: It has not.
            StoreError: Another version of trakflow featurized, by other random matrices perhaps.
        """
        if is_packed(self.save_dir, model_id):
            features = FeatureSet(self.save_dir.shards(model_id), self.weighted)
            _require_this_version(features)
            if self._kernel_path(features) is not None:
                return features
        raise NotReadyError(
            f"model_id={model_id} is not finalized in {self.save_dir.root}; call finalize_features first."
        )

    def score(self, name: str, model_ids: Sequence[int], allow_skip: bool) -> Path:
        """Write the scores of a set of targets, and what they were made from.

        Args:
            name: The set.
            model_ids: Whose mean they are.
            allow_skip: Leave out models that are not ready, with a warning.

        Returns:
            The file, an array (n x m, float32).

        Raises:
            StoreError: A model is not ready, or models were made with other data.
        """
        targets = self.save_dir.num_targets(name)
        parts = self._parts_on_disk(name, model_ids, targets, allow_skip)
        loaders = [partial(self._parts, *part) for part in parts]
        path, shape = self.save_dir.scores(name), (self.n, targets)
        with numpy_file(path, shape, np.float32) as write:
            for row, target, block in score_blocks(loaders, *shape, parts[0][0].k, SCORING_BYTES):
                write(row, target, block)
        models = [features.provenance["checkpoint"] for features, _ in parts]
        facts = {"settings": self.settings, "model_ids": models, "weighted": self.weighted}
        write_json(path.with_suffix(".json"), {**facts, "ridge": self.ridge.value, "ridge_unit": self.ridge.unit})
        log.info("Scores of %d models are in %s.", len(models), path)
        return path

    def _kernel_path(self, features: FeatureSet) -> Path | None:
        """Where the kernel of some features lies; the workflow's own serves as well."""
        model_id = features.provenance["checkpoint"]
        for path in (self.save_dir.kernel(model_id), Path(self.save_dir.layout.kernel(model_id))):
            if is_kernel_of(path, features):
                return path
        return None

    def _parts_on_disk(
        self, name: str, model_ids: Sequence[int], targets: int, allow_skip: bool
    ) -> list[tuple[FeatureSet, ArrayFile]]:
        found = []
        for model_id in model_ids:
            try:
                found.append(self._model_on_disk(name, model_id, targets))
            except NotReadyError as error:
                if not allow_skip:
                    raise StoreError(f"{error} Or leave the model out by model_ids or allow_skip=True.") from error
                log.warning("model_id=%d is skipped: %s", model_id, error)
        if not found:
            raise StoreError(f"No model in {self.save_dir.root} is ready to score exp_name='{name}'.")
        # Features of one folder share their settings; what may differ is which examples the loaders gave.
        require_agreement([features.files[0] for features, _ in found], ("data_content", "total", "k"))
        require_agreement([file for _, file in found], ("data_content", "k"))
        return found

    def _model_on_disk(self, name: str, model_id: int, targets: int) -> tuple[FeatureSet, ArrayFile]:
        features = self.features(model_id)
        try:
            file = ArrayFile(pack_targets(self.save_dir, name, model_id, targets, self.settings))
        except MissingRowsError as error:
            raise NotReadyError(str(error)) from error
        if file.provenance["checkpoint_content"] != features.provenance["checkpoint_content"]:
            raise StoreError(
                f"{file.path} was made by another checkpoint than {features.files[0].path}. Delete "
                f"{self.save_dir.experiment(name)} and score again."
            )
        return features, file

    def _parts(self, features: FeatureSet, targets: ArrayFile) -> CheckpointParts:
        path = self._kernel_path(features)
        if path is None:
            raise StoreError(f"The kernel of {features.files[0].path} is gone; call finalize_features again.")
        kernel = read_kernel(path, features)
        return CheckpointParts(features, kernel, torch.from_numpy(targets.read("features")), kernel.ridge(*self.ridge))
