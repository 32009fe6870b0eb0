"""The class of the notebook: the interface of the paper's own library, in front of the engine of the workflow.

Code written for `traker` runs after changing the import. What differs, and why, is in docs/coming_from_traker.md.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor, nn

from trakflow.config.stages import VERSIONS
from trakflow.devices import usable_device
from trakflow.errors import CheckpointError, ConfigError, StoreError
from trakflow.models.weights import load_weights, read_state, weights_hash
from trakflow.models.wrapped import unwrap
from trakflow.progress import progress
from trakflow.sketches.base import Sketch
from trakflow.sketches.parameters import differentiated_parameters
from trakflow.store.files import fingerprint
from trakflow.store.numpy_files import map_numpy
from trakflow.tasks.base import Task
from trakflow.tasks.preparation import prepared
from trakflow.tasks.running import try_model
from trakflow.traker.arguments import choose_sketch, has_curvature, make_task, refuse_parts, task_name, task_settings
from trakflow.traker.finalizing import is_packed, packed_features, packed_targets
from trakflow.traker.folder import SaveDir, require_model
from trakflow.traker.groups import GroupScores, check_groups, sum_scores
from trakflow.traker.loaded import Loaded
from trakflow.traker.model_output import ModelOutputTask
from trakflow.traker.references import references_facts, references_of
from trakflow.traker.rows import KnownExamples, Rows
from trakflow.traker.solving import NotReadyError, Solver, choose_ridge
from trakflow.traker.workflow_folder import check_workflow

log = logging.getLogger("trakflow")


class TRAKer:
    """Attributes a model's outputs at targets to training examples, batch by batch.

    All that is computed lies in `save_dir` as soon as it is computed, whole and checked, in the file formats of the
    workflow; several processes may work in one `save_dir` at once. Scores keep their absolute scale.

    Args:
        model: The model; checkpoints are loaded into it, and it is moved to `device`. Where it is compiled, or wrapped
            by DistributedDataParallel or DataParallel, features are taken of the model within.
        task: `image_classification`, ...; a `trakflow.tasks.base.Task`; or an instance of a class with `get_output` and
            `get_out_to_loss_grad`, as the paper's library wants it.
        train_set_size: Number of training examples n.
        save_dir: Where everything lies: a folder of its own, or a results folder of the workflow, whose features are
            then read (and nothing of it is changed).
        load_from_save_dir: Whether to go on with what is there; if not, a model_id that is there already is an error.
        device: Where gradients are computed; None for a GPU if there is one, else the CPU.
        gradient_computer: None: gradients are a part of the sketch.
        projector: Name of a sketch (docs/sketches.md), None for `tensor_sketch`; or a projector written for the paper's
            library, with `project` and `proj_dim`.
        saver: None.
        score_computer: None.
        proj_dim: Number of features k; None for 2,048.
        logging_level: Of the logger `trakflow`.
        use_half_precision: Keep features in float16; everything is computed in float32 or better.
        proj_max_batch_size: Sketch at most so many examples of a batch at a time; None for the batch as it comes.
        projector_seed: Names the random matrix, another one for each model_id.
        grad_wrt: Names of the parameters that features are gradients by; None for all with `requires_grad`.
        lambda_reg: None for a relative ridge and rows weighted by W = d2loss/df2. A number is in the unit of the
            paper's library, which divides gradients by the square root of their number, without W; 0 is the paper's
            formula.
        relative_ridge: In units of the mean diagonal of the Gram matrix; None for 1. Not beside `lambda_reg`.
        references: For tasks that compare an example with others (`clip`): a batch of training examples, a few hundred,
            as `featurize` takes it. Each checkpoint embeds them anew as it is loaded.

    Raises:
        ConfigError: An argument can mean nothing here, or contradicts what lies in `save_dir`; says what to use.
        DeviceError: The device, or a package that the sketch needs, is not there.
        SketchError: The sketch does not cover a module of the model.
    """

    def __init__(  # noqa: PLR0913, PLR0917 (the interface of the paper's library)
        self,
        model: nn.Module,
        task: Any,
        train_set_size: int,
        save_dir: str | Path = "./trak_results",
        load_from_save_dir: bool = True,
        device: str | torch.device | None = None,
        gradient_computer: Any = None,
        projector: Any = None,
        saver: Any = None,
        score_computer: Any = None,
        proj_dim: int | None = None,
        logging_level: int | str = logging.INFO,
        use_half_precision: bool = True,
        proj_max_batch_size: int | None = None,
        projector_seed: int = 0,
        grad_wrt: Iterable[str] | None = None,
        lambda_reg: float | None = None,
        relative_ridge: float | None = None,
        references: Any = None,
    ) -> None:
        log.setLevel(logging_level)
        refuse_parts(gradient_computer=gradient_computer, saver=saver, score_computer=score_computer)
        self.task = make_task(task)
        self.train_set_size = _at_least_one(train_set_size, "train_set_size")
        self.device = usable_device(_default_device() if device is None else device)
        self.model = unwrap(model).to(self.device).eval()
        self._batch_size = (
            None if proj_max_batch_size is None else _at_least_one(proj_max_batch_size, "proj_max_batch_size")
        )
        self._choice = choose_sketch(projector, proj_dim, projector_seed, grad_wrt, use_half_precision, self.model)
        # Made once for its errors: the one of a checkpoint is made when its weights are loaded.
        self.proj_dim = self._sketch(0, self.task).k
        weighted = lambda_reg is None and has_curvature(self.task)
        if lambda_reg is None and not weighted:
            log.info("%s defines no curvature W: rows of the Gram matrix are not weighted.", task_name(self.task))
        ridge = choose_ridge(lambda_reg, relative_ridge, self.proj_dim, self.train_set_size, self._ridge_unit())
        self._load_from_save_dir = load_from_save_dir
        self.save_dir = Path(save_dir).resolve()
        self._folder = SaveDir.at(self.save_dir)
        self._references = references_of(
            self.task, references, self._fields, self.train_set_size, self._folder, self.device
        )
        self._solver = Solver(self._folder, self.train_set_size, weighted, ridge, self._agree_on_settings())
        self._examples = KnownExamples(self.train_set_size, False, "Training example")
        self._targets: dict[str, KnownExamples] = {}
        self._loaded: Loaded | None = None
        self.scores: Float32[np.ndarray, "n m"] | None = None

    @property
    def model_ids(self) -> list[int]:
        """Models of which there is anything in `save_dir`, ascending."""
        return self._folder.model_ids

    def load_checkpoint(
        self,
        checkpoint: Mapping[str, Tensor] | str | Path,
        model_id: Any,
        _allow_featurizing_already_registered: bool = False,
    ) -> None:
        """Load a checkpoint into the model, to featurize by it.

        Args:
            checkpoint: A state dict, or the path of one (.pt, .pth, .safetensors).
            model_id: Its number, an integer from 0; each checkpoint has its own, and its own random matrix.
            _allow_featurizing_already_registered: Go on with this model_id even with `load_from_save_dir=False`.

        Raises:
            CheckpointError: It does not fit the model, or this model_id was featurized by another one.
            ConfigError: model_id is no such number, or is there already with `load_from_save_dir=False`.
            DataError: What is there of it was made from other examples than those of another model.
        """
        number = _model_number(model_id)
        there = self._folder.checkpoint_content(number) is not None
        if there and not (self._load_from_save_dir or _allow_featurizing_already_registered):
            raise ConfigError(
                f"model_id={number} is in {self.save_dir} already and load_from_save_dir=False. Choose another "
                f"save_dir, delete {self._folder.model_folder(number)}, or go on with it by load_from_save_dir=True."
            )
        content = self._load(checkpoint)
        if self._folder.of_workflow:
            require_model(self._folder, number)
        self._folder.register(number, content)
        if self._folder.of_workflow and not is_packed(self._folder, number):
            raise StoreError(
                f"Features of checkpoint {number} are incomplete in {self.save_dir}; run the workflow that makes them."
            )
        packed = partial(packed_features, self._folder, number)
        rows = Rows.there(self._folder.records(number), self.train_set_size, self._examples, packed)
        self._loaded = self._begin(number, rows, self.train_set_size, self._choice.settings.dtype, scoring=False)

    def featurize(self, batch: Any, inds: Any = None, num_samples: int | None = None) -> None:
        """Featurize a batch of training examples by the loaded checkpoint; those that are there already are skipped.

        Args:
            batch: Tensors in the order of the task (images, labels), or a mapping of them by name.
            inds: Numbers of the examples (batch), in any order.
            num_samples: Or how many there are; they then follow those of the batch before.

        Raises:
            ConfigError: No checkpoint has been loaded for featurizing.
            DataError: The batch does not fit, or an example is not the one that had its number before.
            NumericalError: A gradient is NaN or Inf.
        """
        self._require_loaded(False, "load_checkpoint", "featurize").take(batch, inds, num_samples)

    def finalize_features(self, model_ids: Iterable[Any] | None = None, del_grads: bool = False) -> None:
        """Factor the Gram matrix of each model, all of whose training examples have been featurized.

        Args:
            model_ids: Which; None for all in `save_dir`.
            del_grads: The paper's library keeps two n x k arrays a model and deletes one on request. Here one is kept,
                which scoring needs, whatever is given.

        Raises:
            StoreError: A model is unknown, or examples are missing.
        """
        if not isinstance(del_grads, bool):
            raise ConfigError(f"del_grads must be True or False, but is {del_grads!r}.")
        for model_id in progress(self._chosen(model_ids), "finalize"):
            self._solver.finalize(model_id)
        if self._loaded is not None:
            self._loaded.cursor = 0

    def start_scoring_checkpoint(
        self, exp_name: str, checkpoint: Mapping[str, Tensor] | str | Path, model_id: Any, num_targets: int
    ) -> None:
        """Load a checkpoint into the model, to featurize targets by it.

        Args:
            exp_name: Names this set of targets, and its files.
            checkpoint: As for `load_checkpoint`: the one that was featurized by.
            model_id: Its number.
            num_targets: How many targets there are.

        Raises:
            CheckpointError: It is not the checkpoint that this model_id was featurized by.
            DataError: The name has another number of targets, or other targets by another model.
            StoreError: The model is unknown or not finalized.
        """
        number = _model_number(model_id)
        featurized_by = require_model(self._folder, number)
        try:
            self._solver.features(number)
        except NotReadyError as error:
            raise StoreError(str(error)) from error
        if self._load(checkpoint) != featurized_by:
            raise CheckpointError(
                f"This is not the checkpoint that model_id={number} was featurized by; scores would mix two models."
            )
        total = _at_least_one(num_targets, "num_targets")
        self._folder.register_experiment(exp_name, total)
        packed = partial(packed_targets, self._folder, exp_name, number)
        known = self._targets.setdefault(exp_name, KnownExamples(total, True, f"Target of exp_name='{exp_name}'"))
        rows = Rows.there(self._folder.target_records(exp_name, number), total, known, packed)
        # Targets are few, and scores are linear in them.
        self._loaded = self._begin(number, rows, total, "float32", scoring=True)

    def score(self, batch: Any, inds: Any = None, num_samples: int | None = None) -> None:
        """Featurize a batch of targets by the checkpoint that scoring was started with; arguments as `featurize`."""
        self._require_loaded(True, "start_scoring_checkpoint", "score").take(batch, inds, num_samples)

    def finalize_scores(
        self, exp_name: str, model_ids: Iterable[Any] | None = None, allow_skip: bool = False
    ) -> Float32[np.ndarray, "n m"]:
        """Compute the scores of a set of targets, and write them to `scores/<exp_name>.npy`.

        Args:
            exp_name: Which set.
            model_ids: Of which models the mean is; None for all in `save_dir`.
            allow_skip: Leave models out, with a warning, whose targets are incomplete or that are not finalized.

        Returns:
            Scores (n x m, float32); positive means that the example raises the target's output. Read from disk as they
            are looked at.

        Raises:
            ConfigError: exp_name is unknown.
            StoreError: A model is unknown, not finalized or lacks targets, or models were made with other data.
        """
        path = self._solver.score(exp_name, self._chosen(model_ids), allow_skip)
        # Copied where it is written to, so that the file stays what was computed.
        self.scores = map_numpy(path, "c")
        return self.scores

    def group_scores(self, exp_name: str, groups: Any) -> GroupScores:
        """Sum the scores of a set of targets over groups of training examples, as a class, a speech or a source.

        Args:
            exp_name: Which set; `finalize_scores` has been called for it.
            groups: The name of each training example's group (train_set_size), in the order of their numbers; a list,
                array or a tensor.

        Returns:
            names, sizes and scores (groups x m, float32; summed in float64), of groups in the order in which they first
            appear in `groups`. To first order, a score is what the output would lose without the whole group.

        Raises:
            ConfigError: exp_name is unknown.
            DataError: There are more or fewer names than examples.
            StoreError: `finalize_scores` has not been called for exp_name.
        """
        self._folder.num_targets(exp_name)
        return sum_scores(self._folder.scores(exp_name), check_groups(groups, self.train_set_size), exp_name)

    def _ridge_unit(self) -> float:
        """What a ridge of 1 in the paper's library is to our Gram matrix G.

        With p entries in a gradient and matrices whose entries have variance 1, its Gram matrix is (k / p) G.
        """
        parameters = differentiated_parameters(self.model, self._choice.settings.parameters)
        return sum(value.numel() for value in parameters.values()) / self._choice.traker_scale(self.proj_dim)

    def _agree_on_settings(self) -> dict[str, Any]:
        facts = {
            **self._choice.facts,
            "k": self.proj_dim,
            "train_set_size": self.train_set_size,
            "task": task_name(self.task),
            "task_settings": task_settings(self.task),
        }
        if self._folder.of_workflow:
            check_workflow(self._folder, facts)
        shapes = {name: list(value.shape) for name, value in self.model.named_parameters()}
        facts |= references_facts(self._references)
        settings = {**facts, "model": fingerprint(shapes), "version": VERSIONS["featurize"]}
        settings["fingerprint"] = fingerprint(settings)
        self._folder.agree(settings)
        return settings

    def _sketch(self, model_id: int, task: Task) -> Sketch:
        return self._choice.build(self.model, task, model_id, str(self.device))

    def _load(self, checkpoint: Mapping[str, Tensor] | str | Path) -> str:
        """Load a checkpoint into the model and return its hash."""
        # Whatever was being made was made with the weights that are about to go.
        self._loaded = None
        state = read_state(checkpoint) if isinstance(checkpoint, (str, Path)) else checkpoint
        load_weights(self.model, state, "The checkpoint")
        self.model.to(self.device).eval()
        return weights_hash(self.model.state_dict())

    def _begin(self, model_id: int, rows: Rows, total: int, dtype: str, scoring: bool) -> Loaded:
        task = prepared(self.task, self.model, self._references)
        try_batch = partial(try_model, task, self.model, name="The model")
        sketch = self._sketch(model_id, task)
        return Loaded(sketch, try_batch, rows, total, dtype, scoring, self.device, self._fields, self._batch_size)

    @property
    def _fields(self) -> Sequence[str] | None:
        return None if isinstance(self.task, ModelOutputTask) else self.task.fields

    def _require_loaded(self, scoring: bool, first: str, call: str) -> Loaded:
        if self._loaded is None or self._loaded.scoring != scoring:
            raise ConfigError(f"Call {first} before {call}: it says which checkpoint the model is to have.")
        return self._loaded

    def _chosen(self, model_ids: Iterable[Any] | None) -> Sequence[int]:
        chosen = self.model_ids if model_ids is None else [_model_number(model_id) for model_id in model_ids]
        if not chosen:
            raise StoreError(f"There is no model in {self.save_dir}; call load_checkpoint and featurize first.")
        if len(set(chosen)) != len(chosen):
            raise ConfigError(f"model_ids names a model twice: {chosen}.")
        for model_id in chosen:
            require_model(self._folder, model_id)
        return chosen


def _default_device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def _model_number(model_id: Any) -> int:
    if isinstance(model_id, bool) or not isinstance(model_id, (int, np.integer)) or model_id < 0:
        raise ConfigError(f"model_id={model_id!r} must be an integer from 0.")
    return int(model_id)


def _at_least_one(value: Any, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise ConfigError(f"{name}={value!r} must be an integer of at least 1.")
    return int(value)
