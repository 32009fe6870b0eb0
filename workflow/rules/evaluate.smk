# The linear datamodeling score: subsets, retrained models, the table.


if RETRAINED or settings.fitted_methods:

    rule subsets:
        output:
            layout.subsets("{batch}", "{purpose}"),
        log:
            log_of("subsets/{purpose}.{batch}"),
        benchmark:
            benchmark_of("subsets/{purpose}.{batch}")
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
            reads=reads("subsets"),
            subsets=subset_range,
        message:
            "Draw batch {wildcards.batch} of the subsets for {wildcards.purpose}."
        shell:
            "{resources.scripts}/subsets.py {resources.experiment} runtime.threads={threads} job.log={log}"
            " job.purpose={wildcards.purpose} job.batch={wildcards.batch}"

    rule retrain:
        input:
            data=rules.prepare_train.output,
            masks=rules.subsets.output,
        output:
            layout.retrained("{retrain}", "{batch}", "{purpose}"),
        log:
            log_of("retrain/{purpose}.{retrain}.{batch}"),
        benchmark:
            benchmark_of("retrain/{purpose}.{retrain}.{batch}")
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
            reads=reads("retrain"),
        message:
            "Retrain models on batch {wildcards.batch} of the subsets for {wildcards.purpose}, run {wildcards.retrain}."
        shell:
            "{resources.scripts}/retrain.py {resources.experiment} runtime.threads={threads} job.log={log}"
            " job.purpose={wildcards.purpose} job.retrain={wildcards.retrain} job.batch={wildcards.batch}"

    rule retrained_outputs:
        input:
            models=rules.retrain.output,
            data=rules.prepare_targets.output,
            train=rules.prepare_train.output,
        output:
            layout.retrained_outputs("{retrain}", "{batch}", "{purpose}"),
        log:
            log_of("retrained_outputs/{purpose}.{retrain}.{batch}"),
        benchmark:
            benchmark_of("retrained_outputs/{purpose}.{retrain}.{batch}")
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
            reads=reads("retrained_outputs"),
        message:
            "Outputs of the models retrained on batch {wildcards.batch} for {wildcards.purpose}, run {wildcards.retrain}."
        shell:
            "{resources.scripts}/retrained_outputs.py {resources.experiment} runtime.threads={threads} job.log={log}"
            " job.purpose={wildcards.purpose} job.retrain={wildcards.retrain} job.batch={wildcards.batch}"


if EVALUATED:

    rule evaluate:
        input:
            **evaluation_inputs(),
            scores=[
                path for method in settings.methods for path in method_scores(method)
            ],
            ridges=[layout.ridge(count) for count in COUNTS],
            features=[
                path for checkpoint in CHECKPOINTS for path in features_of(checkpoint)
            ],
        output:
            layout.lds,
        log:
            log_of("evaluate"),
        benchmark:
            benchmark_of("evaluate")
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
            reads=reads("evaluate"),
        message:
            "Evaluate the linear datamodeling score."
        shell:
            "{resources.scripts}/evaluate.py {resources.experiment} runtime.threads={threads} job.log={log}"
