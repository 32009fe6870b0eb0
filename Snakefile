from snakemake.utils import min_version

min_version("9.20")


include: "workflow/rules/common.smk"


rule all:
    default_target: True
    input:
        layout.config,
        layout.score_provenance,
        layout.score_topk,
        published_scores(),
        published_groups(),
        [layout.method_topk(method) for method in settings.methods[1:]],
        [layout.lds] if EVALUATED else [],
        [layout.removal] if settings.removal.counts else [],
        [layout.mislabel] if settings.mislabel else [],
        [layout.figure(name, "svg") for name in FIGURES],


include: "workflow/rules/data.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/attribute.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/methods.smk"
include: "workflow/rules/removal.smk"
include: "workflow/rules/mislabel.smk"
include: "workflow/rules/figures.smk"
include: "workflow/rules/paper.smk"
