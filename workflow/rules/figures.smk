# Figures: svg for the report, png and csv beside it.


rule draw_gallery:
    input:
        topk=layout.score_topk,
        train=rules.prepare_train.output,
        targets=rules.prepare_targets.output,
    output:
        shown("gallery", "Attributions", "gallery"),
        **drawn("gallery"),
    log:
        log_of("draw_gallery"),
    benchmark:
        benchmark_of("draw_gallery")
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
        reads=reads("figures"),
        shown=(settings.figures.gallery_targets, settings.figures.gallery_examples),
        caption=caption_facts(),
    message:
        "Draw the gallery."
    shell:
        "{resources.scripts}/draw_gallery.py {resources.experiment} runtime.threads={threads} job.log={log}"


rule draw_self_lds:
    input:
        layout.ridge(TOTAL),
    output:
        shown("self_lds", "Solver", "self-LDS"),
        **drawn("self_lds"),
    log:
        log_of("draw_self_lds"),
    benchmark:
        benchmark_of("draw_self_lds")
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
        reads=reads("figures"),
        caption=caption_facts(),
    message:
        "Draw the self-LDS curve."
    shell:
        "{resources.scripts}/draw_self_lds.py {resources.experiment} runtime.threads={threads} job.log={log}"


if settings.scores.groups is not None:

    rule draw_top_groups:
        input:
            layout.group_topk,
        output:
            shown("top_groups", "Attributions", "groups"),
            **drawn("top_groups"),
        log:
            log_of("draw_top_groups"),
        benchmark:
            benchmark_of("draw_top_groups")
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
            reads=reads("figures"),
            shown=(settings.figures.gallery_targets, settings.figures.gallery_examples),
            groups=settings.scores.groups,
            caption=caption_facts(),
        message:
            "Draw the groups of training examples that matter most."
        shell:
            "{resources.scripts}/draw_top_groups.py {resources.experiment} runtime.threads={threads} job.log={log}"


if settings.removal.counts:

    rule draw_removal:
        input:
            rules.evaluate_removal.output,
        output:
            shown("removal", "Evaluation", "removal"),
            **drawn("removal"),
        log:
            log_of("draw_removal"),
        benchmark:
            benchmark_of("draw_removal")
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
            reads=reads("figures"),
            removal=settings.removal.model_dump(),
            caption=caption_facts(),
        message:
            "Draw what becomes of predictions without the removed examples."
        shell:
            "{resources.scripts}/draw_removal.py {resources.experiment} runtime.threads={threads} job.log={log}"


if settings.mislabel:

    rule draw_mislabel:
        input:
            rules.evaluate_mislabel.output,
        output:
            shown("mislabel", "Evaluation", "wrong labels"),
            **drawn("mislabel"),
        log:
            log_of("draw_mislabel"),
        benchmark:
            benchmark_of("draw_mislabel")
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
            reads=reads("figures"),
            caption=caption_facts(),
        message:
            "Draw how precisely self-influence finds wrong labels."
        shell:
            "{resources.scripts}/draw_mislabel.py {resources.experiment} runtime.threads={threads} job.log={log}"


if EVALUATED:

    rule draw_lds_vs_checkpoints:
        input:
            rules.evaluate.output,
        output:
            shown("lds_vs_checkpoints", "Evaluation", "LDS against checkpoints"),
            **drawn("lds_vs_checkpoints"),
        log:
            log_of("draw_lds_vs_checkpoints"),
        benchmark:
            benchmark_of("draw_lds_vs_checkpoints")
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
            reads=reads("figures"),
            caption=caption_facts(),
        message:
            "Draw LDS against the number of checkpoints."
        shell:
            "{resources.scripts}/draw_lds_vs_checkpoints.py {resources.experiment} runtime.threads={threads} job.log={log}"

    rule draw_predicted_vs_actual:
        input:
            **evaluation_inputs(),
            scores=layout.score_array(TOTAL, TOTAL),
            targets=rules.prepare_targets.output,
        output:
            shown("predicted_vs_actual", "Evaluation", "predicted against actual"),
            **drawn("predicted_vs_actual"),
        log:
            log_of("draw_predicted_vs_actual"),
        benchmark:
            benchmark_of("draw_predicted_vs_actual")
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
            reads=reads("figures"),
            shown=settings.figures.shown_target,
            caption=caption_facts(),
        message:
            "Draw predicted against actual outputs."
        shell:
            "{resources.scripts}/draw_predicted_vs_actual.py {resources.experiment} runtime.threads={threads} job.log={log}"
