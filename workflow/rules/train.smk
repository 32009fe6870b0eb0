# Checkpoints: trained here, or the user's own files.

if settings.checkpoints.files is None:

    rule train_checkpoint:
        input:
            rules.prepare_train.output,
        output:
            weights=layout.checkpoint("{checkpoint}"),
            mask=layout.checkpoint_mask("{checkpoint}"),
        log:
            log_of("train_checkpoint/{checkpoint}"),
        benchmark:
            benchmark_of("train_checkpoint/{checkpoint}")
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
            reads=reads("train_checkpoint"),
        message:
            f"Train checkpoint {{wildcards.checkpoint}} of {TOTAL}."
        shell:
            "{resources.scripts}/train_checkpoint.py {resources.experiment} runtime.threads={threads} job.log={log}"
            " job.checkpoint={wildcards.checkpoint}"

else:

    rule import_checkpoint:
        input:
            weights=lambda wildcards: brought(
                settings.checkpoints.files[int(wildcards.checkpoint)]
            ),
            # The experiment is tried on two of them; what is imported does not depend on them.
            data=ancient(rules.prepare_train.output),
        output:
            layout.checkpoint("{checkpoint}"),
        log:
            log_of("import_checkpoint/{checkpoint}"),
        benchmark:
            benchmark_of("import_checkpoint/{checkpoint}")
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
            reads=reads("import_checkpoint"),
        message:
            "Check checkpoint {wildcards.checkpoint}: {input.weights}."
        shell:
            "{resources.scripts}/import_checkpoint.py {resources.experiment} runtime.threads={threads} job.log={log}"
            " job.checkpoint={wildcards.checkpoint}"

    rule import_mask:
        input:
            lambda wildcards: (
                brought(settings.checkpoints.masks)
                if settings.checkpoints.masks
                else []
            ),
        output:
            layout.checkpoint_mask("{checkpoint}"),
        log:
            log_of("import_mask/{checkpoint}"),
        benchmark:
            benchmark_of("import_mask/{checkpoint}")
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
            reads=reads("import_mask"),
        message:
            "Keep what checkpoint {wildcards.checkpoint} was trained on."
        shell:
            "{resources.scripts}/import_mask.py {resources.experiment} runtime.threads={threads} job.log={log}"
            " job.checkpoint={wildcards.checkpoint}"
