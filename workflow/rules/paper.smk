# The paper's figures: what methods cost, variants of the experiment, and drawings with their captions.

VARIANTS = {variant.name: variant for variant in variants(settings)}
PAPER_FORMS = ("svg", "png", "pdf", "csv", "txt")


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
            f"job.results={local_path(layout.variant(variant.name))}",
            f"job.variant_of={local_path(layout.root)}",
            f"job.own_checkpoints={str(variant.own_checkpoints).lower()}",
        ]
    )


def variant_weights(wildcards):
    """The experiment's checkpoints and what they were trained on, where a variant has none of its own."""
    if VARIANTS[wildcards.variant].own_checkpoints:
        return []
    weights = [layout.checkpoint(checkpoint) for checkpoint in CHECKPOINTS]
    return [*weights, *checkpoint_masks(TOTAL)]


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
    return sorted(
        {
            layout.log(work.log)
            for method in settings.methods
            for count in settings.counts_of(method)
            for work in (
                *method_work(settings, method, count),
                *training_work(settings, method, count),
            )
        }
    )


def paper_targets(wildcards):
    """Every form of every figure; an error where the experiment has none."""
    if settings.paper is None:
        raise WorkflowError(
            "paper_figures compares methods and variants, and this experiment names none. Choose some, for example:"
            f" snakemake --cores all paper_figures --config experiment={choice.experiment}"
            " 'overrides=[\"paper=full\"]'"
        )
    return [layout.paper(name, form) for name in PAPER_FIGURES for form in PAPER_FORMS]


PAPER_FIGURES = ["gallery"]
PAPER_FIGURES += [
    "lds_vs_compute",
    "lds_vs_checkpoints",
    "sketches",
    "ablation",
    "cheap_checkpoints",
] * EVALUATED
PAPER_FIGURES += ["removal"] * bool(settings.removal.counts)
PAPER_FIGURES += ["mislabel"] * settings.mislabel


rule paper_figures:
    input:
        paper_targets,


if settings.paper is not None:

    rule forward_backward:
        input:
            data=rules.prepare_train.output,
            weights=layout.checkpoint(0),
        output:
            layout.forward_backward,
        log:
            log_of("forward_backward"),
        benchmark:
            benchmark_of("forward_backward")
        conda:
            ENVIRONMENT
        container:
            IMAGE
        threads: settings.runtime.threads
        resources:
            mem_mb=memory,
            runtime=minutes,
            gpu=gpus,
            scripts=SCRIPTS,
            experiment=HYDRA,
        params:
            reads=reads("forward_backward"),
        message:
            "Time forward and backward passes over the training set."
        shell:
            "{resources.scripts}/forward_backward.py {resources.experiment} runtime.threads={threads} job.log={log}"

    rule draw_paper:
        input:
            lambda wildcards: paper_inputs(wildcards.figure),
        output:
            [layout.paper("{figure}", form) for form in PAPER_FORMS],
        log:
            log_of("draw_paper/{figure}"),
        benchmark:
            benchmark_of("draw_paper/{figure}")
        conda:
            ENVIRONMENT
        container:
            IMAGE
        threads: 1
        resources:
            mem_mb=memory,
            runtime=minutes,
            scripts=SCRIPTS,
            experiment=HYDRA,
        params:
            reads=[reads(stage) for stage in ("figures", "paper")],
            caption=caption_facts(),
            shown=(settings.figures.gallery_targets, settings.figures.gallery_examples),
        message:
            "Draw {wildcards.figure} with its caption."
        shell:
            "{resources.scripts}/draw_paper.py {resources.experiment} runtime.threads={threads} job.log={log}"
            " job.figure={wildcards.figure}"


if settings.paper is not None and EVALUATED:

    rule compute:
        input:
            measured_work(),
            lds=layout.lds,
            unit=rules.forward_backward.output,
        output:
            layout.compute,
        log:
            log_of("compute"),
        benchmark:
            benchmark_of("compute")
        conda:
            ENVIRONMENT
        container:
            IMAGE
        threads: 1
        resources:
            mem_mb=memory,
            runtime=minutes,
            scripts=SCRIPTS,
            experiment=HYDRA,
        params:
            reads=reads("evaluate"),
        message:
            "Put what each method cost beside its LDS."
        shell:
            "{resources.scripts}/compute.py {resources.experiment} runtime.threads={threads} job.log={log}"

    # A whole variant in one job, which removes what lies between: their features would fill a disk.
    rule variant:
        input:
            variant_weights,
            **evaluation_inputs(),
            data=rules.prepare_train.output,
            chosen=rules.prepare_targets.output,
        output:
            variant_tables("{variant}"),
        log:
            log_of("variant/{variant}"),
        benchmark:
            benchmark_of("variant/{variant}")
        conda:
            ENVIRONMENT
        container:
            IMAGE
        threads: settings.runtime.threads
        resources:
            mem_mb=memory,
            runtime=minutes,
            gpu=gpus,
            scripts=SCRIPTS,
            experiment=HYDRA,
        params:
            reads=[
                reads(stage)
                for stage in (
                    "train_checkpoint",
                    "featurize",
                    "featurize_targets",
                    "finalize",
                    "choose_ridge",
                    "score",
                    "evaluate",
                    "paper",
                )
            ],
            variant=variant_command,
        message:
            "Featurize, score and evaluate variant {wildcards.variant}."
        shell:
            "{resources.scripts}/variant.py {resources.experiment} {params.variant}"
            " runtime.threads={threads} job.log={log}"

    rule ablate:
        input:
            scored_parts(TOTAL),
            **evaluation_inputs(),
            ridge=layout.ridge(TOTAL),
            variants=tables_of(ablated_variants(settings)),
            fitted=[
                path
                for paths in retrained_models("fitting", FITTED).values()
                for path in paths
            ],
            data=rules.prepare_train.output,
            chosen=rules.prepare_targets.output,
        output:
            layout.ablation,
        log:
            log_of("ablate"),
        benchmark:
            benchmark_of("ablate")
        conda:
            ENVIRONMENT
        container:
            IMAGE
        threads: settings.runtime.threads
        resources:
            mem_mb=memory,
            runtime=minutes,
            scripts=SCRIPTS,
            experiment=HYDRA,
        params:
            reads=[reads(stage) for stage in ("evaluate", "paper")],
        message:
            "Evaluate the method without its parts."
        shell:
            "{resources.scripts}/ablate.py {resources.experiment} runtime.threads={threads} job.log={log}"
