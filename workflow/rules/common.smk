# The configuration, composed once a process and without torch, and what every rule takes from it.
import hashlib
import shlex
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

from trakflow.config.compose import (
    CONFIG_ROOT,
    compose_config,
    compose_with_arguments,
)
from trakflow.config.method_settings import is_of_method
from trakflow.config.shards import batch_count, batch_indices, shard_range
from trakflow.config.snakemake_config import (
    check_snakemake_config,
    with_overrides,
    with_paper_figures,
)
from trakflow.config.stages import method_settings, stage_settings
from trakflow.config.user_files import check_features_from, check_user_files
from trakflow.config.variants import (
    ablated_variants,
    cheap_variants,
    check_paper_figures,
    sized_variants,
    sketch_variants,
    variants,
)
from trakflow.errors import TrakflowError
from trakflow.evaluation.costs import method_work, training_work, variant_work
from trakflow.layout import EVALUATION, TRAK, Layout

try:
    choice = check_snakemake_config(config)
    # What is asked for as a target is not known to a Snakefile while it is read; a target of that name in a Snakefile that
    # has this one as a module is another.
    if "paper_figures" in sys.argv[1:] and workflow.modifier.is_main_snakefile():
        choice = with_paper_figures(choice)
        # A job on another machine is asked for by its files, and should find the same settings.
        workflow.config_settings.config_args = with_overrides(
            workflow.config_settings.config_args or [], choice.overrides
        )
    settings, arguments = compose_with_arguments(
        choice.experiment, choice.overrides, choice.config_dirs
    )
    layout = Layout(f"results/{choice.experiment}")
    check_features_from(settings, layout.root)
    # Where this is a module of another Snakefile, rules of that one may make the files.
    if workflow.modifier.is_main_snakefile():
        check_user_files(settings)
except TrakflowError as error:
    raise WorkflowError(str(error))


include: "environments.smk"


def local_path(path):
    """Where a file or folder lies on the machine that a job runs on: elsewhere, if results are kept in remote storage."""
    return str(workflow.modifier.path_modifier.modify(path))


def brought(path):
    """A file of the user's own: read where it lies, even if results are kept in remote storage. For input functions."""
    shared = {usage.name for usage in workflow.storage_settings.shared_fs_usage}
    if workflow.is_main_process and "INPUT_OUTPUT" not in shared:
        raise WorkflowError(
            f"{path} is read where it lies, which jobs without a shared file system cannot. Use an executor that has one"
            " (--executor local, or Slurm), or let the experiment make what that file holds."
        )
    return local(str(path))


HYDRA = shlex.join([*arguments, f"job.results={local_path(layout.root)}"])


def brought_files(paths):
    """An input function for files of the user's own."""
    return lambda wildcards: [brought(path) for path in paths]


# How rules run a script: `{resources.scripts}/<name>.py {resources.experiment}`. They are resources, since a param would
# make every rule run again for any changed override, where each should do so only for the settings that it `reads`. They
# are the same for every rule, or Snakemake could not run jobs of several rules as one group.
# -P: the folder of the scripts is not searched for modules, or the user's `score.py` would be found there.
SCRIPTS = f"{PYTHON} -P {shlex.quote(str(CONFIG_ROOT.parent / 'workflow' / 'scripts'))}"

# A hash: the whole configuration would fill the screen where Snakemake says why a rule runs.
WHOLE = hashlib.sha256(
    settings.model_dump_json(exclude={"job", "runtime"}).encode()
).hexdigest()

CHECKPOINTS = range(settings.checkpoints.total)
SHARDS = range(settings.shards)
COUNTS = settings.counts_evaluated
PARTIAL_COUNTS = settings.partial_counts
TOTAL = settings.checkpoints.total
EVALUATED = settings.evaluation.source != "none"
RETRAINED = settings.evaluation.source == "retrain"
# How many subsets there are, and how many models of each, for the evaluation and for methods that are fitted.
SUBSETS = {
    "evaluation": settings.evaluation.subsets,
    "fitting": settings.fitting.subsets,
}
RETRAINS = {
    "evaluation": settings.evaluation.retrains,
    "fitting": settings.fitting.retrains,
}
# How many subsets the methods that are fitted need.
FITTED = max(
    (settings.counts_of(method)[-1] for method in settings.fitted_methods), default=0
)
FIGURES = ["gallery", "self_lds"] + [
    "lds_vs_checkpoints",
    "predicted_vs_actual",
] * EVALUATED
FIGURES += ["top_groups"] * (settings.scores.groups is not None)
FIGURES += ["removal"] * bool(settings.removal.counts)
FIGURES += ["mislabel"] * settings.mislabel
CAPTIONS = CONFIG_ROOT.parent / "workflow" / "report"


report: str(CAPTIONS / "workflow.rst")


wildcard_constraints:
    checkpoint=r"\d+",
    first=r"\d+",
    shard=r"\d+",
    batch=r"\d+",
    retrain=r"\d+",
    method=r"[a-z0-9_]+",
    variant=r"[a-z0-9_]+",
    figure=r"[a-z0-9_]+",
    purpose="|".join(SUBSETS),
    removed=r"\d+",


def reads(stage):
    """What a stage reads of the configuration: a change of it, and of nothing else, makes the rule run again."""
    return stage_settings(settings, stage)


def memory(wildcards, attempt):
    """Megabytes that a job asks for: twice as much at each retry. Batch sizes go by the configuration, not by this."""
    return settings.runtime.memory_mb * 2 ** (attempt - 1)


def minutes(wildcards, attempt):
    """Minutes that a job asks for: twice as many at each retry."""
    return settings.runtime.minutes * 2 ** (attempt - 1)


def gpus(wildcards):
    """GPUs of a job that runs the model: where the device is one, one, so that two jobs never share it."""
    if not settings.runtime.device.startswith("cuda"):
        return 0
    on_gpu = {rule.name for rule in workflow.rules if "gpu" in rule.resources}
    # Snakemake knows its groups only after it has read the rules.
    groups = workflow.group_settings.overwrite_groups
    for group in set(groups.values()):
        pieces = workflow.group_settings.group_components.get(group, 1)
        grouped = [rule for rule in groups if groups[rule] == group and rule in on_gpu]
        if len(grouped) > 1 or (grouped and pieces > 1):
            raise WorkflowError(
                f"Group {group} (group-components {pieces}) could run several of {', '.join(grouped)} in one job, and"
                f" these run on a GPU (runtime.device={settings.runtime.device}): of the GPUs of a job, all would take"
                " the first. Leave them out of the groups, or give each a group of its own with group-components 1."
            )
    return 1


def published_scores():
    """The dense scores, unless the configuration leaves them out."""
    return [layout.score_array(TOTAL, TOTAL)] if settings.scores.dense else []


def published_groups():
    """Scores of groups, their table and the best of each target, where the configuration asks for them."""
    if settings.scores.groups is None:
        return []
    return [layout.group_scores, layout.group_table, layout.group_topk]


def features_of(checkpoint):
    """Feature files of one checkpoint."""
    return [layout.features(checkpoint, shard) for shard in SHARDS]


def featurized_parts(count):
    """Features of the training examples and of the targets, of the first `count` checkpoints, as one list."""
    chosen = range(count)
    return [
        *(path for checkpoint in chosen for path in features_of(checkpoint)),
        *(layout.target_features(checkpoint) for checkpoint in chosen),
    ]


def scored_parts(count):
    """Everything that scoring the first `count` checkpoints reads, as one list.

    Rules take it without a name: of a named list of inputs Snakemake hashes the whole for each of its files, which for
    thousands of shards takes longer than all else that it does.
    """
    return [
        *featurized_parts(count),
        *(layout.kernel(checkpoint) for checkpoint in range(count)),
    ]


def checkpoint_masks(count):
    """What the first `count` checkpoints were trained on, where that is known."""
    return [
        layout.checkpoint_mask(checkpoint)
        for checkpoint in range(count)
        if settings.checkpoints.on_subsets
    ]


def log_of(name):
    """Log of a rule, with its wildcards in the name."""
    return layout.log(name)


def benchmark_of(name):
    """Seconds, memory and I/O of a rule, measured by Snakemake."""
    return f"{layout.root}/benchmarks/{name}.tsv"


def retrained_models(purpose, subsets):
    """Masks of the first subsets, and outputs of the models retrained on them."""
    batches = range(batch_count(subsets, settings.evaluation.models_per_batch))
    return {
        "masks": [layout.subsets(batch, purpose) for batch in batches],
        "outputs": [
            layout.retrained_outputs(retrain, batch, purpose)
            for retrain in range(RETRAINS[purpose])
            for batch in batches
        ],
    }


def evaluation_inputs():
    """Masks and outputs: made here, or the user's own files."""
    if RETRAINED:
        return retrained_models("evaluation", SUBSETS["evaluation"])
    return {
        "masks": lambda wildcards: brought(settings.evaluation.masks),
        "outputs": lambda wildcards: brought(settings.evaluation.outputs),
    }


def removal_batches():
    """Numbers of the batches in which targets lie whose examples are removed."""
    return range(
        batch_count(settings.removal.targets, settings.evaluation.models_per_batch)
    )


def removal_range(wildcards):
    """First and last number of the targets in a batch."""
    chosen = batch_indices(
        settings.removal.targets,
        settings.evaluation.models_per_batch,
        int(wildcards.batch),
    )
    return chosen.start, chosen.stop


def ranking_scores(method):
    """The scores by which a method ranks examples; none where random ones are removed and no method draws them."""
    if method not in settings.methods:
        return []
    return [method_scores(method)[-1]]


def removal_results():
    """What is said of their targets by models with and without the removed examples."""
    pieces = [
        (method, removed, batch)
        for method in settings.removal_methods
        for removed in settings.removal.counts
        for batch in removal_batches()
    ]
    numbers = range(settings.removal.retrains)
    return {
        "everything": [layout.trained_on_all(number) for number in numbers],
        "masks": [layout.removed(*piece) for piece in pieces],
        "outputs": [
            layout.trained_without(method, removed, number, batch)
            for method, removed, batch in pieces
            for number in numbers
        ],
    }


def subset_range(wildcards):
    """First and last index of the subsets in a batch."""
    chosen = batch_indices(
        SUBSETS[wildcards.purpose],
        settings.evaluation.models_per_batch,
        int(wildcards.batch),
    )
    return chosen.start, chosen.stop


def method_scores(method):
    """Scores of a method for each number of checkpoints or subsets that it is evaluated with."""
    counts = settings.counts_of(method)
    return [layout.score_array(count, counts[-1], method) for count in counts]


def published_count(method):
    """Of how many subsets the published scores are, where the method says so: the inputs may not tell."""
    fitted = settings.method[method].reads == "retrained"
    chosen = settings.method[method].counts
    return {"published": chosen[-1]} if fitted and chosen is not None else {}


def method_inputs(method):
    """What the scores of a method beside TRAK are made from."""
    reads, counts = settings.method[method].reads, settings.counts_of(method)
    if reads == "checkpoint":
        return {
            "parts": [
                layout.method_part(method, checkpoint)
                for checkpoint in range(counts[-1])
            ]
        }
    if reads == "checkpoints":
        return {"parts": [layout.method_count(method, count) for count in counts]}
    return retrained_models("fitting", counts[-1]) if reads == "retrained" else {}


def drawn(name):
    """The other forms of a figure."""
    return {"png": layout.figure(name, "png"), "table": layout.figure(name, "csv")}


def caption_facts():
    """What the captions name: seed, checkpoints, sketch and subsets."""
    return {
        "experiment": choice.experiment,
        "seed": settings.seed,
        "checkpoints": TOTAL,
        "on_subsets": settings.checkpoints.on_subsets,
        "sketch": settings.sketch.name,
        "k": settings.sketch.k,
        "weights": settings.solver.weights,
        "subsets": (
            settings.evaluation.subsets
            if settings.evaluation.source == "retrain"
            else None
        ),
        "retrains": (
            settings.evaluation.retrains
            if settings.evaluation.source == "retrain"
            else None
        ),
        "confidence": settings.evaluation.confidence,
    }


def shown(name, category, figure):
    """A figure in the report, with its caption and labels."""
    return report(
        layout.figure(name, "svg"),
        caption=str(CAPTIONS / f"{name}.rst"),
        category=category,
        labels={"experiment": choice.experiment, "figure": figure},
    )
