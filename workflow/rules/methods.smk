# Methods beside TRAK: one job a checkpoint where they read one after another, one for each number of checkpoints where
# they read several at once, and one for the scores of each method.

if any(method.reads == "checkpoint" for method in settings.method.values()):

    rule attribute_checkpoint:
        input:
            data=rules.prepare_train.output,
            targets=rules.prepare_targets.output,
            weights=layout.checkpoint("{checkpoint}"),
            masks=lambda wildcards: (
                [layout.checkpoint_mask(wildcards.checkpoint)]
                if settings.checkpoints.on_subsets
                else []
            ),
        output:
            layout.method_part("{method}", "{checkpoint}"),
        log:
            log_of("attribute_checkpoint/{method}.{checkpoint}"),
        benchmark:
            benchmark_of("attribute_checkpoint/{method}.{checkpoint}")
        # The longest jobs first, so that no core waits for one of them in the end.
        priority: 2
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
            reads=lambda wildcards: method_settings(settings, wildcards.method),
        message:
            "Attribute by {wildcards.method} and checkpoint {wildcards.checkpoint}."
        shell:
            "{resources.scripts}/attribute_checkpoint.py {resources.experiment} runtime.threads={threads} job.log={log}"
            " job.method={wildcards.method} job.checkpoint={wildcards.checkpoint}"


if any(method.reads == "checkpoints" for method in settings.method.values()):

    rule attribute_checkpoints:
        input:
            data=rules.prepare_train.output,
            targets=rules.prepare_targets.output,
            weights=lambda wildcards: [
                layout.checkpoint(checkpoint)
                for checkpoint in range(int(wildcards.first))
            ],
            masks=lambda wildcards: checkpoint_masks(int(wildcards.first)),
        output:
            layout.method_count("{method}", "{first}"),
        log:
            log_of("attribute_checkpoints/{method}.{first}"),
        benchmark:
            benchmark_of("attribute_checkpoints/{method}.{first}")
        priority: 2
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
            reads=lambda wildcards: method_settings(settings, wildcards.method),
        message:
            "Attribute by {wildcards.method} and the first {wildcards.first} checkpoints."
        shell:
            "{resources.scripts}/attribute_checkpoints.py {resources.experiment} runtime.threads={threads} job.log={log}"
            " job.method={wildcards.method} job.count={wildcards.first}"


# A rule each: how many files a method writes depends on what it reads.
for method in settings.methods[1:]:

    rule:
        name:
            f"attribute_{method}"
        input:
            brought_files(settings.method[method].files),
            **method_inputs(method),
            train=rules.prepare_train.output,
            targets=rules.prepare_targets.output,
        output:
            method_scores(method),
            provenance=layout.method_provenance(method),
            topk=layout.method_topk(method),
        log:
            log_of(f"attribute_{method}"),
        benchmark:
            benchmark_of(f"attribute_{method}")
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
            **published_count(method),
            reads=method_settings(settings, method),
            method=method,
            topk=settings.scores.topk,
        message:
            f"Scores of {method}."
        shell:
            "{resources.scripts}/attribute.py {resources.experiment} runtime.threads={threads} job.log={log}"
            " job.method={params.method}"
