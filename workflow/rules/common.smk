# The configuration, composed once a process and without torch, and what every rule takes from it.
import shlex
import sys

from snakemake.exceptions import WorkflowError

from trakflow.config.compose import CONFIG_ROOT, compose_config, search_path_override
from trakflow.config.shards import batch_count, batch_indices, shard_range
from trakflow.config.snakemake_config import check_snakemake_config
from trakflow.config.stages import stage_settings
from trakflow.errors import TrakflowError
from trakflow.layout import Layout

try:
    choice = check_snakemake_config(config)
    settings = compose_config(choice.experiment, choice.overrides, choice.config_dirs)
except TrakflowError as error:
    raise WorkflowError(str(error))

layout = Layout(f"results/{choice.experiment}")

# These name the computation but are not params: a changed override must rerun the rules that read it, and no others.
PYTHON = shlex.quote(sys.executable)
SCRIPTS = shlex.quote(str(CONFIG_ROOT.parent / "workflow" / "scripts"))
HYDRA = shlex.join(
    [
        *search_path_override(choice.config_dirs),
        f"experiment={choice.experiment}",
        *choice.overrides,
        f"job.results={layout.root}",
    ]
)

CHECKPOINTS = range(settings.checkpoints.total)
SHARDS = range(settings.shards)
COUNTS = settings.counts_evaluated
TOTAL = settings.checkpoints.total
EVALUATED = settings.evaluation.source != "none"
BATCHES = range(batch_count(settings.evaluation.subsets, settings.evaluation.models_per_batch))
RETRAINS = range(settings.evaluation.retrains)
FIGURES = ["gallery", "self_lds"] + ["lds_vs_checkpoints", "predicted_vs_actual"] * EVALUATED
CAPTIONS = CONFIG_ROOT.parent / "workflow" / "report"


wildcard_constraints:
    checkpoint=r"\d+",
    shard=r"\d+",
    checkpoints=r"\d+",
    batch=r"\d+",
    retrain=r"\d+",


def reads(stage):
    """What a stage reads of the configuration: a change of it, and of nothing else, makes the rule run again."""
    return stage_settings(settings, stage)


def published_scores():
    """The dense scores, unless the configuration leaves them out."""
    return [layout.score_array(TOTAL, TOTAL)] if settings.scores.dense else []


def features_of(checkpoint):
    """Feature files of one checkpoint."""
    return [layout.features(checkpoint, shard) for shard in SHARDS]


def scored_parts(count):
    """Everything that scoring the first `count` checkpoints reads."""
    chosen = range(int(count))
    return {
        "features": [path for checkpoint in chosen for path in features_of(checkpoint)],
        "kernels": [layout.kernel(checkpoint) for checkpoint in chosen],
        "targets": [layout.target_features(checkpoint) for checkpoint in chosen],
    }


def log_of(name):
    """Log of a rule, with its wildcards in the name."""
    return f"{layout.root}/logs/{name}.log"


def benchmark_of(name):
    """Seconds, memory and I/O of a rule, measured by Snakemake."""
    return f"{layout.root}/benchmarks/{name}.tsv"
