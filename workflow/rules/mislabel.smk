# Finding wrong labels by each method's self-influence.

if settings.mislabel:

    rule evaluate_mislabel:
        input:
            [method_scores(method)[-1] for method in settings.methods],
            data=rules.prepare_train.output,
            targets=rules.prepare_targets.output,
        output:
            layout.mislabel,
            curve=layout.mislabel_curve,
        log:
            log_of("evaluate_mislabel"),
        benchmark:
            benchmark_of("evaluate_mislabel")
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
            reads=reads("evaluate_mislabel"),
        message:
            "Evaluate how well self-influence finds wrong labels."
        shell:
            "{resources.scripts}/evaluate_mislabel.py {resources.experiment} runtime.threads={threads} job.log={log}"
