# The linear datamodeling score: subsets, retrained models, the table.


if settings.evaluation.source == "retrain":

    rule subsets:
        output:
            layout.subsets("{batch}"),
        log:
            log_of("subsets/{batch}"),
        benchmark:
            benchmark_of("subsets/{batch}")
        conda:
            ENVIRONMENT
        threads: 1
        resources:
            mem_mb=settings.runtime.memory_mb,
            runtime=settings.runtime.minutes,
            script=script("subsets"),
        params:
            reads=reads("subsets"),
            subsets=subset_range,
        message:
            "Draw batch {wildcards.batch} of the evaluation subsets."
        shell:
            "{resources.script} runtime.threads={threads} job.log={log} job.batch={wildcards.batch}"

    rule retrain:
        input:
            data=rules.prepare_train.output,
            masks=rules.subsets.output,
        output:
            layout.retrained("{retrain}", "{batch}"),
        log:
            log_of("retrain/{retrain}.{batch}"),
        benchmark:
            benchmark_of("retrain/{retrain}.{batch}")
        conda:
            ENVIRONMENT
        threads: settings.runtime.threads
        resources:
            mem_mb=settings.runtime.memory_mb,
            runtime=settings.runtime.minutes,
            gpu=GPUS,
            script=script("retrain"),
        params:
            reads=reads("retrain"),
        message:
            "Retrain models on batch {wildcards.batch} of the subsets, run {wildcards.retrain}."
        shell:
            "{resources.script} runtime.threads={threads} job.log={log}"
            " job.retrain={wildcards.retrain} job.batch={wildcards.batch}"

    rule retrained_outputs:
        input:
            models=rules.retrain.output,
            data=rules.prepare_targets.output,
        output:
            layout.retrained_outputs("{retrain}", "{batch}"),
        log:
            log_of("retrained_outputs/{retrain}.{batch}"),
        benchmark:
            benchmark_of("retrained_outputs/{retrain}.{batch}")
        conda:
            ENVIRONMENT
        threads: settings.runtime.threads
        resources:
            mem_mb=settings.runtime.memory_mb,
            runtime=settings.runtime.minutes,
            gpu=GPUS,
            script=script("retrained_outputs"),
        params:
            reads=reads("retrained_outputs"),
        message:
            "Outputs of the models retrained on batch {wildcards.batch}, run {wildcards.retrain}."
        shell:
            "{resources.script} runtime.threads={threads} job.log={log}"
            " job.retrain={wildcards.retrain} job.batch={wildcards.batch}"


if EVALUATED:

    rule evaluate:
        input:
            **evaluation_inputs(),
            scores=[layout.score_array(count, TOTAL) for count in COUNTS],
            ridges=[layout.ridge(count) for count in COUNTS],
            features=scored_parts(TOTAL)["features"],
        output:
            layout.lds,
        log:
            log_of("evaluate"),
        benchmark:
            benchmark_of("evaluate")
        conda:
            ENVIRONMENT
        threads: settings.runtime.threads
        resources:
            mem_mb=settings.runtime.memory_mb,
            runtime=settings.runtime.minutes,
            script=script("evaluate"),
        params:
            reads=reads("evaluate"),
        message:
            "Evaluate the linear datamodeling score."
        shell:
            "{resources.script} runtime.threads={threads} job.log={log}"
