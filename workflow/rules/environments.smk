# Where the packages of a job come from: the interpreter that Snakemake runs in, or with --sdm a conda environment or a
# container. Both hold the packages and not this checkout, whose code jobs run.
import os
import shutil

from trakflow.config.snakemake_config import check_container

CHECKOUT = CONFIG_ROOT.parent
DEPLOYMENT = {method.name for method in workflow.deployment_settings.deployment_method}
DEVICE = "gpu" if settings.runtime.device.startswith("cuda") else "cpu"
ENVIRONMENT = str(CHECKOUT / "envs" / f"{DEVICE}.yaml")
try:
    IMAGE = check_container(choice.container, "APPTAINER" in DEPLOYMENT, DEVICE)
except TrakflowError as error:
    raise WorkflowError(str(error))

PYTHON = (
    f"PYTHONPATH={shlex.quote(str(CHECKOUT / 'src'))} python"
    if DEPLOYMENT & {"CONDA", "APPTAINER"}
    else shlex.quote(sys.executable)
)


def show_container(prefix):
    """Let containers see the code and the GPU, by the variables that Apptainer (or Singularity) reads both from."""
    folders = [
        str(Path(folder).resolve().parent)
        for folder in (CONFIG_ROOT, *choice.config_dirs)
    ]
    bound = os.environ.get(f"{prefix}_BIND", "").split(",")
    os.environ[f"{prefix}_BIND"] = ",".join(
        dict.fromkeys(filter(None, bound + folders))
    )
    if DEVICE == "gpu":
        os.environ[f"{prefix}_NV"] = "1"


if IMAGE:
    show_container("APPTAINER" if shutil.which("apptainer") else "SINGULARITY")
