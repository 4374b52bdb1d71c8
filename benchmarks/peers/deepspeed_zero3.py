"""DeepSpeed ZeRO-3 on CPU.

DS_ACCELERATOR=cpu OMP_NUM_THREADS=1 torchrun --nproc_per_node 8 deepspeed_zero3.py --dtype bfloat16
"""

import os

os.environ.setdefault("DS_ACCELERATOR", "cpu")
# torchrun sets no LOCAL_SIZE; DeepSpeed's shared-memory all-reduce wants it.
os.environ.setdefault("LOCAL_SIZE", os.environ.get("LOCAL_WORLD_SIZE", "1"))

import deepspeed  # noqa: E402: the accelerator is chosen by the environment
import torch.distributed as dist  # noqa: E402
from common import arguments, build_model, measure, row_of, single_thread  # noqa: E402


def main() -> None:
    options = arguments(__doc__).parse_args()
    single_thread()
    deepspeed.init_distributed()
    ranks = dist.get_world_size()
    config = {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "train_batch_size": ranks,
        "gradient_clipping": 0.0,
        "steps_per_print": 10**9,
        "bf16": {"enabled": options.dtype == "bfloat16"},
        # On the CPU accelerator this is FusedAdam, DeepSpeed's own vectorized C++ operator.
        "optimizer": {"type": "AdamW", "params": {"lr": 1e-3, "weight_decay": 0.0}},
        "zero_optimization": {
            "stage": 3,
            "overlap_comm": True,
            "contiguous_gradients": True,
        },
    }
    model = build_model()
    if options.gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    model.train()
    engine, *_ = deepspeed.initialize(model=model, model_parameters=model.parameters(), config=config)
    options.notes = {"optimizer": type(engine.optimizer.optimizer).__name__}
    batch = row_of(dist.get_rank())

    def step() -> float:
        loss = engine(**batch).loss
        engine.backward(loss)
        engine.step()
        return loss.item()

    measure("deepspeed_zero3", options, step)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
