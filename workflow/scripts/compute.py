"""Put what each method cost beside its LDS."""

from trakflow.stages.compute import compute
from trakflow.stages.runner import run

if __name__ == "__main__":
    run(compute)
