"""A `save_dir`: where everything of a TRAKer lies, in the workflow's own file formats.

The file is the state. What has been featurized is what lies there, whichever process wrote it; there is no cursor and
no registry. Below it, as in a results folder of the workflow: `features/<model_id>/<shard>.safetensors`,
`kernels/<model_id>.safetensors` and `scores/<exp_name>.npy`; and of its own: `traker.json` (what all models share),
`features/<model_id>/model.json` (which checkpoint), `features/<model_id>/records/` (rows that are not yet a shard) and
`experiments/<exp_name>/` (the same of the targets).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trakflow.errors import CheckpointError, ConfigError, DataError, StoreError
from trakflow.layout import Layout
from trakflow.store.array_file import ArrayFile
from trakflow.store.files import read_facts, write_json_once

NAME = re.compile(r"[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True)
class SaveDir:
    """Paths below a save_dir.

    Attributes:
        root: The folder.
        own: Where what a TRAKer writes lies: the same folder, or one inside it where that is a workflow's.
    """

    root: Path
    own: Path

    @classmethod
    def at(cls, root: Path) -> "SaveDir":
        """Return the paths; a folder that a workflow made is recognised by its resolved configuration."""
        is_workflow = Path(Layout(str(root)).config).is_file()
        return cls(root, root / "traker" if is_workflow else root)

    @property
    def of_workflow(self) -> bool:
        """Whether a workflow made this folder, so that its features are only read."""
        return self.own != self.root

    @property
    def layout(self) -> Layout:
        """Where features lie."""
        return Layout(str(self.root))

    def model_folder(self, model_id: int) -> Path:
        """Features of one model."""
        return Path(self.layout.features(model_id, 0)).parent

    def records(self, model_id: int) -> Path:
        """Rows of one model that are not yet in a shard."""
        return self.model_folder(model_id) / "records"

    def shards(self, model_id: int) -> list[Path]:
        """Shards of one model, sorted by number."""
        # Not the hidden names under which another process is writing.
        return sorted(self.model_folder(model_id).glob("[0-9]*.safetensors"), key=lambda path: int(path.stem))

    def kernel(self, model_id: int) -> Path:
        """The factored Gram matrix of one model."""
        return Path(Layout(str(self.own)).kernel(model_id))

    @property
    def model_ids(self) -> list[int]:
        """Models of which there is anything, ascending."""
        folder = self.model_folder(0).parent
        return sorted(int(path.name) for path in folder.glob("*") if path.name.isdecimal())

    def experiment(self, name: str) -> Path:
        """Folder of one set of targets.

        Raises:
            ConfigError: The name is not fit for a file.
        """
        if not NAME.fullmatch(name):
            raise ConfigError(f"exp_name='{name}' names files; use letters, digits, '.', '_' and '-'.")
        return self.own / "experiments" / name

    def target_records(self, name: str, model_id: int) -> Path:
        """Rows of target features that are not yet one file."""
        return self.experiment(name) / "records" / str(model_id)

    def target_features(self, name: str, model_id: int) -> Path:
        """Target features of one model."""
        return Path(Layout(str(self.experiment(name))).target_features(model_id))

    def scores(self, name: str) -> Path:
        """The scores of one set of targets."""
        return self.own / "scores" / f"{name}.npy"

    def checkpoint_content(self, model_id: int) -> str | None:
        """The hash of the checkpoint that a model was featurized by, or None where nothing of it is there."""
        if shards := self.shards(model_id):
            return str(ArrayFile(shards[0]).provenance["checkpoint_content"])
        path = self.model_folder(model_id) / "model.json"
        return str(read_facts(path, "checkpoint_content")["checkpoint_content"]) if path.is_file() else None

    def register(self, model_id: int, checkpoint_content: str) -> None:
        """Tie a model to its checkpoint, or refuse another one than before.

        Raises:
            CheckpointError: The model was featurized by another checkpoint.
        """
        known = self.checkpoint_content(model_id)
        if known is None:
            path = self.model_folder(model_id) / "model.json"
            write_json_once(path, {"checkpoint_content": checkpoint_content})
            known = read_facts(path, "checkpoint_content")["checkpoint_content"]
        if known != checkpoint_content:
            raise CheckpointError(
                f"model_id={model_id} was featurized by another checkpoint than this one. Give each checkpoint a "
                f"model_id of its own, or delete {self.model_folder(model_id)} to featurize it anew."
            )

    def register_experiment(self, name: str, num_targets: int) -> None:
        """Tie a name to a number of targets, or refuse another number than before.

        Raises:
            DataError: There was another number.
        """
        path = self.experiment(name) / "experiment.json"
        write_json_once(path, {"num_targets": num_targets})
        known = read_facts(path, "num_targets")["num_targets"]
        if known != num_targets:
            raise DataError(
                f"exp_name='{name}' has {known} targets in {self.own}, not {num_targets}. Choose another exp_name, or "
                f"delete {self.experiment(name)} to score it anew."
            )

    def num_targets(self, name: str) -> int:
        """How many targets a name has.

        Raises:
            ConfigError: The name is unknown.
        """
        path = self.experiment(name) / "experiment.json"
        if not path.is_file():
            known = sorted(folder.name for folder in (self.own / "experiments").glob("*") if folder.is_dir())
            raise ConfigError(
                f"exp_name='{name}' has not been scored in {self.own}; call start_scoring_checkpoint and score first. "
                f"{'There are: ' + ', '.join(known) if known else 'There is none yet'}."
            )
        return int(read_facts(path, "num_targets")["num_targets"])

    def agree(self, settings: dict[str, Any]) -> None:
        """Keep what all models of this folder share, or refuse what differs from before.

        Raises:
            ConfigError: Names each setting that differs, with both values.
        """
        known = write_json_once(self.own / "traker.json", settings)
        differing = [f"{name} is {here!r} here and {there!r} there" for name, here, there in unequal(settings, known)]
        if differing:
            raise ConfigError(
                f"{self.root} was made with other settings than this TRAKer: {'; '.join(differing)}. Use the same, or "
                "another save_dir."
            )


def unequal(here: Mapping[str, Any], there: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """Return each name whose values differ, with both; None stands for a missing one."""
    names = sorted(here.keys() | there.keys())
    return [(name, here.get(name), there.get(name)) for name in names if here.get(name) != there.get(name)]


def require_model(save_dir: SaveDir, model_id: int) -> str:
    """Return the hash of a model's checkpoint.

    Raises:
        StoreError: Nothing of this model is there.
    """
    content = save_dir.checkpoint_content(model_id)
    if content is None:
        known = ", ".join(map(str, save_dir.model_ids)) or "none"
        raise StoreError(
            f"model_id={model_id} is unknown in {save_dir.root}; featurized there: {known}. Call load_checkpoint and "
            "featurize first."
        )
    return content
