"""How many examples a sketch may take at once within a memory budget."""

import torch
from torch import Tensor, nn

from trakflow.devices import starts_at_once
from trakflow.tasks.base import Batch, Task
from trakflow.tasks.running import floating_type, run_model

# Beyond which nothing gets faster. A GPU waits for Python at each operation of a small model, so larger batches pay
# there.
LARGEST_BATCH = 256
LARGEST_BATCH_ON_A_GPU = 1024


def examples_at_once(bytes_per_example: int, budget: int, device: torch.device | str) -> int:
    """Return the batch size: a function of the model, the sketch, the device and the configured budget alone.

    Args:
        bytes_per_example: By `Sketch.bytes_per_example`.
        budget: In bytes.
        device: Where the model is.

    Returns:
        At least 1, however small the budget, and at most 256 on a CPU and 1,024 elsewhere; on an NVIDIA GPU no more
        than fit into half of its memory, too.
    """
    where = torch.device(device)
    if where.type == "cuda" and torch.cuda.is_available():
        budget = min(budget, torch.cuda.get_device_properties(where).total_memory // 2)
    largest = LARGEST_BATCH if starts_at_once(where) else LARGEST_BATCH_ON_A_GPU
    return max(1, min(largest, budget // max(1, bytes_per_example)))


def activation_bytes(model: nn.Module, task: Task, example: Batch) -> int:
    """Return the bytes of what modules return and of what a forward pass keeps for the backward pass, without weights.

    Args:
        model: The model.
        task: Says how it is called.
        example: A batch of one, which may be a view into all of them.
    """
    weights = {tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), *model.buffers())}
    kept: dict[int, int] = {}

    alive: list[Tensor] = []
    # A view would count as all of the array that it lies in.
    example = {name: array.clone() for name, array in example.items()}

    def count(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
            # Or its memory would be given to the next tensor, and counted once for both.
            alive.append(tensor)
        return tensor

    def returned(module: nn.Module, inputs: object, output: object) -> None:
        if isinstance(output, Tensor):
            count(output)

    handles = [module.register_forward_hook(returned) for module in model.modules()]
    try:
        with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            task.output(run_model(task, model, example, floating_type(model)), example)
    finally:
        for handle in handles:
            handle.remove()
    return sum(kept.values())
