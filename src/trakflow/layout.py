"""Where every file of an experiment lies: the one place that the rules, the scripts and the library share.

Methods take an integer, or a Snakemake pattern such as ``"{checkpoint}"``, and return a path as a string.
"""

from dataclasses import dataclass
from typing import Literal, get_args

Index = int | str

# From which stage on a variant has files of its own; those of the stages before are its experiment's.
OwnFrom = Literal["checkpoints", "features", "kernels", "scores"]
STAGES: tuple[OwnFrom, ...] = get_args(OwnFrom)

# The method that the workflow exists for; it has rules of its own.
TRAK = "trak"
# The method that every other one must beat.
RANDOM = "random"
EVALUATION = "evaluation"
FITTING = "fitting"


@dataclass(frozen=True)
class Layout:
    """Paths below one results folder.

    Args:
        root: ``results/<experiment>``, or of one of its variants.
        variant_of: Of a variant, the experiment's root, where its data and retrained models lie.
        own_from: Of a variant, from which stage on its files are others than the experiment's.
    """

    root: str
    variant_of: str | None = None
    own_from: OwnFrom = "features"

    @property
    def shared(self) -> str:
        """Root of what a variant shares with its experiment."""
        return self.root if self.variant_of is None else self.variant_of

    def _root_of(self, stage: OwnFrom) -> str:
        """Root of a stage's files."""
        return self.root if STAGES.index(stage) >= STAGES.index(self.own_from) else self.shared

    @property
    def train(self) -> str:
        """Training examples: arrays `inputs`, `labels`, `ids`."""
        return f"{self.shared}/data/train.safetensors"

    @property
    def targets(self) -> str:
        """Targets: as `train`, and `attributed_labels`."""
        return f"{self.shared}/data/targets.safetensors"

    @property
    def config(self) -> str:
        """The resolved configuration, for provenance; nothing that computes reads it."""
        return f"{self.root}/config.yaml"

    def checkpoint(self, checkpoint: Index) -> str:
        """Model weights, a plain safetensors state dict."""
        return f"{self._root_of('checkpoints')}/checkpoints/{checkpoint}.safetensors"

    def checkpoint_mask(self, checkpoint: Index) -> str:
        """Boolean mask (n) of the examples that a checkpoint was trained on."""
        return f"{self._root_of('checkpoints')}/checkpoints/{checkpoint}.mask.npy"

    def features(self, checkpoint: Index, shard: Index) -> str:
        """Features, Q and W of one shard of training examples."""
        return f"{self._root_of('features')}/features/{checkpoint}/{shard}.safetensors"

    def target_features(self, checkpoint: Index) -> str:
        """Features and outputs of the targets."""
        return f"{self._root_of('features')}/target_features/{checkpoint}.safetensors"

    def kernel(self, checkpoint: Index) -> str:
        """Eigendecomposition of the Gram matrix."""
        return f"{self._root_of('kernels')}/kernels/{checkpoint}.safetensors"

    def ridge(self, count: Index) -> str:
        """The ridge for the first `count` checkpoints, and how it was chosen."""
        return f"{self.root}/ridge/{count}.json"

    def score_array(self, count: Index, total: Index, method: str = TRAK) -> str:
        """Scores (n x m) of the first `count` checkpoints; those of all of them are the published ones."""
        if count == total:
            return f"{self.root}/scores/{method}.npy"
        return f"{self.root}/scores/partial/{method}.{count}.npy"

    def method_provenance(self, method: str) -> str:
        """Provenance of the scores of a method other than TRAK."""
        return f"{self.root}/scores/{method}.json"

    def method_topk(self, method: str) -> str:
        """As `score_topk`, of a method other than TRAK."""
        return f"{self.root}/scores/{method}.topk.parquet"

    def method_part(self, method: str, checkpoint: Index) -> str:
        """Scores (n x m) of one checkpoint by a method other than TRAK."""
        return f"{self.root}/methods/{method}/{checkpoint}.safetensors"

    def method_count(self, method: str, count: Index) -> str:
        """Scores (n x m) of the first `count` checkpoints by a method that averages over checkpoints by itself."""
        return f"{self.root}/methods/{method}/first.{count}.safetensors"

    @property
    def score_provenance(self) -> str:
        """Provenance of the scores."""
        return f"{self.root}/scores/{TRAK}.json"

    @property
    def score_topk(self) -> str:
        """The most helpful and most harmful training examples of each target."""
        return f"{self.root}/scores/{TRAK}.topk.parquet"

    @property
    def group_scores(self) -> str:
        """Scores summed over groups of training examples (groups x m)."""
        return f"{self.root}/scores/{TRAK}.groups.npy"

    @property
    def group_table(self) -> str:
        """The groups: their numbers, names and sizes."""
        return f"{self.root}/scores/{TRAK}.groups.parquet"

    @property
    def group_topk(self) -> str:
        """The most helpful and most harmful groups of each target."""
        return f"{self.root}/scores/{TRAK}.groups.topk.parquet"

    def subsets(self, batch: Index, purpose: str = EVALUATION) -> str:
        """Masks of one batch of subsets, of the evaluation's or of those that methods are fitted on."""
        return f"{self.shared}/{purpose}/subsets/{batch}.safetensors"

    def retrained(self, retrain: Index, batch: Index, purpose: str = EVALUATION) -> str:
        """Stacked weights of one batch of retrained models."""
        return f"{self.shared}/{purpose}/models/{retrain}/{batch}.safetensors"

    def retrained_outputs(self, retrain: Index, batch: Index, purpose: str = EVALUATION) -> str:
        """Outputs of one batch of retrained models at the targets."""
        return f"{self.shared}/{purpose}/outputs/{retrain}/{batch}.safetensors"

    def log(self, name: str) -> str:
        """Log of a job, by its rule and wildcards."""
        return f"{self.root}/logs/{name}.log"

    @property
    def forward_backward(self) -> str:
        """Seconds of a forward and backward pass over the training set: the unit of compute."""
        return f"{self.root}/evaluation/forward_backward.json"

    @property
    def compute(self) -> str:
        """The table of linear datamodeling scores and what they cost."""
        return f"{self.root}/evaluation/lds_vs_compute.csv"

    @property
    def lds(self) -> str:
        """The table of linear datamodeling scores."""
        return f"{self.root}/evaluation/lds.csv"

    def trained_on_all(self, retrain: Index) -> str:
        """What models trained on everything say of the targets, for the removal of examples."""
        return f"{self.root}/removal/everything/{retrain}.safetensors"

    def removed(self, method: str, removed: Index, batch: Index) -> str:
        """Masks that leave out the `removed` examples that a method ranks highest, of one batch of targets."""
        return f"{self.root}/removal/{method}/{removed}/masks/{batch}.safetensors"

    def trained_without(self, method: str, removed: Index, retrain: Index, batch: Index) -> str:
        """What models trained on these masks say of the targets that the masks are for."""
        return f"{self.root}/removal/{method}/{removed}/outputs/{retrain}/{batch}.safetensors"

    @property
    def removal(self) -> str:
        """The table of what becomes of predictions when the highest ranked examples are left out."""
        return f"{self.root}/evaluation/removal.csv"

    @property
    def mislabel(self) -> str:
        """The table of how well each method's self-influence finds wrong labels."""
        return f"{self.root}/evaluation/mislabel.csv"

    @property
    def mislabel_curve(self) -> str:
        """Precision and recall of each method at each number of examples that are looked at."""
        return f"{self.root}/evaluation/mislabel_curve.csv"

    def variant(self, name: str) -> str:
        """Root of a variant: the same with some settings changed."""
        return f"{self.root}/variants/{name}"

    @property
    def ridge_curve(self) -> str:
        """A variant's table of LDS against the ridge."""
        return f"{self.root}/evaluation/lds_vs_ridge.csv"

    @property
    def ablation(self) -> str:
        """The table of the LDS without parts of the method."""
        return f"{self.root}/evaluation/ablation.csv"

    def paper(self, name: str, suffix: str) -> str:
        """One figure of the paper's set: svg, png, pdf, its data as csv, its caption as txt, its provenance as json."""
        return f"{self.root}/paper/{name}.{suffix}"

    def figure(self, name: str, suffix: str) -> str:
        """One figure, as svg, png or its data as csv."""
        return f"{self.root}/figures/{name}.{suffix}"
