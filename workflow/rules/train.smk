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
        threads: settings.runtime.threads
        resources:
            mem_mb=settings.runtime.memory_mb,
            runtime=settings.runtime.minutes,
            gpu=GPUS,
            script=script("train_checkpoint"),
        params:
            reads=reads("train_checkpoint"),
        message:
            f"Train checkpoint {{wildcards.checkpoint}} of {TOTAL}."
        shell:
            "{resources.script} runtime.threads={threads} job.log={log}"
            " job.checkpoint={wildcards.checkpoint}"

else:

    rule import_checkpoint:
        input:
            lambda wildcards: settings.checkpoints.files[int(wildcards.checkpoint)],
        output:
            layout.checkpoint("{checkpoint}"),
        log:
            log_of("import_checkpoint/{checkpoint}"),
        benchmark:
            benchmark_of("import_checkpoint/{checkpoint}")
        conda:
            ENVIRONMENT
        threads: 1
        resources:
            mem_mb=settings.runtime.memory_mb,
            runtime=settings.runtime.minutes,
            script=script("import_checkpoint"),
        params:
            reads=reads("import_checkpoint"),
        message:
            "Check checkpoint {wildcards.checkpoint}: {input}."
        shell:
            "{resources.script} runtime.threads={threads} job.log={log} job.checkpoint={wildcards.checkpoint}"

    rule import_mask:
        input:
            [settings.checkpoints.masks] if settings.checkpoints.masks else [],
        output:
            layout.checkpoint_mask("{checkpoint}"),
        log:
            log_of("import_mask/{checkpoint}"),
        benchmark:
            benchmark_of("import_mask/{checkpoint}")
        conda:
            ENVIRONMENT
        threads: 1
        resources:
            mem_mb=settings.runtime.memory_mb,
            runtime=settings.runtime.minutes,
            script=script("import_mask"),
        params:
            reads=reads("import_mask"),
        message:
            "Keep what checkpoint {wildcards.checkpoint} was trained on."
        shell:
            "{resources.script} runtime.threads={threads} job.log={log} job.checkpoint={wildcards.checkpoint}"
