# Removal: models retrained without the examples that a method ranks highest for a target.

if settings.removal.counts:

    rule retrain_on_all:
        input:
            data=rules.prepare_train.output,
            targets=rules.prepare_targets.output,
        output:
            layout.trained_on_all("{retrain}"),
        log:
            log_of("retrain_on_all/{retrain}"),
        benchmark:
            benchmark_of("retrain_on_all/{retrain}")
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
            reads=reads("retrain_on_all"),
        message:
            "Train models on everything, run {wildcards.retrain}."
        shell:
            "{resources.scripts}/retrain_on_all.py {resources.experiment} runtime.threads={threads} job.log={log}"
            " job.retrain={wildcards.retrain}"

    rule remove:
        input:
            lambda wildcards: ranking_scores(wildcards.method),
            everything=layout.trained_on_all(0),
            data=rules.prepare_train.output,
            targets=rules.prepare_targets.output,
        output:
            layout.removed("{method}", "{removed}", "{batch}"),
        log:
            log_of("remove/{method}.{removed}.{batch}"),
        benchmark:
            benchmark_of("remove/{method}.{removed}.{batch}")
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
            reads=reads("remove"),
            targets=removal_range,
        message:
            "Choose the {wildcards.removed} examples that {wildcards.method} ranks highest, batch {wildcards.batch}."
        shell:
            "{resources.scripts}/remove.py {resources.experiment} runtime.threads={threads} job.log={log}"
            " job.method={wildcards.method} job.count={wildcards.removed} job.batch={wildcards.batch}"

    rule retrain_without:
        input:
            masks=rules.remove.output,
            data=rules.prepare_train.output,
            targets=rules.prepare_targets.output,
        output:
            layout.trained_without("{method}", "{removed}", "{retrain}", "{batch}"),
        log:
            log_of("retrain_without/{method}.{removed}.{retrain}.{batch}"),
        benchmark:
            benchmark_of("retrain_without/{method}.{removed}.{retrain}.{batch}")
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
            reads=reads("retrain_without"),
        message:
            "Retrain without the {wildcards.removed} examples that {wildcards.method} ranks highest, batch"
            " {wildcards.batch}, run {wildcards.retrain}."
        shell:
            "{resources.scripts}/retrain_without.py {resources.experiment} runtime.threads={threads} job.log={log}"
            " job.method={wildcards.method} job.count={wildcards.removed} job.retrain={wildcards.retrain}"
            " job.batch={wildcards.batch}"

    rule evaluate_removal:
        input:
            **removal_results(),
            data=rules.prepare_train.output,
            targets=rules.prepare_targets.output,
        output:
            layout.removal,
        log:
            log_of("evaluate_removal"),
        benchmark:
            benchmark_of("evaluate_removal")
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
            reads=reads("evaluate_removal"),
        message:
            "Evaluate what becomes of predictions without the removed examples."
        shell:
            "{resources.scripts}/evaluate_removal.py {resources.experiment} runtime.threads={threads} job.log={log}"
