# The paper's figures: what methods cost, variants of the experiment, and drawings with their captions.


include: "paper_inputs.smk"


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
            reads=[reads(stage) for stage in ("figures", "draw_paper")],
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
            variants=tables_of(sized_variants(settings).values()),
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
            reads=reads("compute"),
        message:
            "Put what each method cost beside its LDS."
        shell:
            "{resources.scripts}/compute.py {resources.experiment} runtime.threads={threads} job.log={log}"

    # A whole variant in one job, which removes what lies between: their features would fill a disk.
    rule variant:
        input:
            variant_parts,
            **evaluation_inputs(),
            data=rules.prepare_train.output,
            chosen=rules.prepare_targets.output,
        output:
            variant_tables("{variant}"),
        log:
            log_of("variant/{variant}"),
        benchmark:
            benchmark_of("variant/{variant}")
        # After the longer jobs of other methods, before what takes a minute.
        priority: 1
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
                    "variant",
                )
            ],
            variant=variant_command,
            ridges=variant_ridges,
        message:
            "Score and evaluate variant {wildcards.variant}."
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
            reads=reads("ablate"),
        message:
            "Evaluate the method without its parts."
        shell:
            "{resources.scripts}/ablate.py {resources.experiment} runtime.threads={threads} job.log={log}"
