# What the rules of the paper's figures read and make.

VARIANTS = {variant.name: variant for variant in variants(settings)}
PAPER_FORMS = ("svg", "png", "pdf", "csv", "txt", "json")


def variant_tables(name):
    """A variant's LDS for each number of checkpoints, and against the ridge."""
    own = Layout(layout.variant(name))
    return [own.lds, own.ridge_curve]


def variant_command(wildcards):
    """The settings that a variant changes, and where its files lie."""
    variant = VARIANTS[wildcards.variant]
    return shlex.join(
        [
            *variant.overrides,
            *(f"~method.{method}" for method in settings.method),
            f"job.results={local_path(layout.variant(variant.name))}",
            f"job.variant_of={local_path(layout.root)}",
            f"job.own_from={variant.own_from}",
            *(["job.timed=true"] if variant.timed else []),
        ]
    )


def variant_ridges(wildcards):
    """At which ridges a variant is scored besides its own, for the figure; at none, if it does not show the variant."""
    shown = VARIANTS[wildcards.variant].ridge_curve and settings.paper.ridges
    return settings.paper.ridges.model_dump() if shown else None


def variant_parts(wildcards):
    """What a variant takes of the experiment: files of the stage before its own, and what checkpoints were trained on."""
    own_from = VARIANTS[wildcards.variant].own_from
    if own_from == "checkpoints":
        return []
    if own_from == "features":
        parts = [layout.checkpoint(checkpoint) for checkpoint in CHECKPOINTS]
    else:
        parts = scored_parts(TOTAL) if own_from == "scores" else featurized_parts(TOTAL)
    return [*parts, *checkpoint_masks(TOTAL)]


def tables_of(names):
    """The tables of some variants."""
    return [table for name in names for table in variant_tables(name)]


def paper_inputs(name):
    """What a figure of the paper's set is drawn from."""
    tables = {
        "lds_vs_compute": [layout.compute],
        "lds_vs_checkpoints": [layout.lds],
        "sketches": tables_of(sketch_variants(settings).values()),
        "ablation": [layout.ablation],
        "cheap_checkpoints": tables_of(cheap_variants(settings)),
        "removal": [layout.removal],
        "mislabel": [layout.mislabel, layout.mislabel_curve],
        "gallery": [layout.score_topk, layout.train, layout.targets],
    }
    return [*tables[name], layout.forward_backward]


def measured_work():
    """Logs of the jobs whose seconds are counted."""
    found = {
        work.log
        for method in settings.methods
        for count in settings.counts_of(method)
        for work in (
            *method_work(settings, method, count),
            *training_work(settings, method, count),
        )
    }
    for name in sized_variants(settings).values():
        found |= {work.log for work in variant_work(name, TOTAL)}
    return sorted(map(layout.log, found))


def paper_targets(wildcards):
    """Every form of every figure; an error where the experiment has none."""
    if settings.paper is None:
        raise WorkflowError(
            "paper=none asks for no figures of the paper's set; name another of config/paper."
        )
    if EVALUATED and (settings.checkpoints.files or settings.features_from):
        raise WorkflowError(
            "paper_figures says what every method cost, and checkpoints.files or features_from bring what was not made"
            " here. Set both to null, or evaluation=none for the other figures."
        )
    if EVALUATED and workflow.is_main_process:
        try:
            check_paper_figures(
                settings,
                lambda overrides: compose_config(
                    choice.experiment,
                    # Settings of other methods, which a variant leaves out.
                    [own for own in choice.overrides if not is_of_method(own)]
                    + list(overrides),
                    choice.config_dirs,
                ),
            )
        except TrakflowError as error:
            raise WorkflowError(str(error))
    return [layout.paper(name, form) for name in PAPER_FIGURES for form in PAPER_FORMS]


PAPER_FIGURES = ["gallery"]
PAPER_FIGURES += [
    "lds_vs_compute",
    "lds_vs_checkpoints",
    "cheap_checkpoints",
] * EVALUATED
PAPER_FIGURES += ["ablation"] * (
    EVALUATED and settings.paper is not None and settings.paper.ablation
)
PAPER_FIGURES += ["sketches"] * (EVALUATED and bool(sketch_variants(settings)))
PAPER_FIGURES += ["removal"] * bool(settings.removal.counts)
PAPER_FIGURES += ["mislabel"] * settings.mislabel
