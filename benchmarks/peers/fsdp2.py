"""PyTorch FSDP2 (`fully_shard`) on gloo, CPU.

OMP_NUM_THREADS=1 torchrun --nproc_per_node 8 fsdp2.py --dtype bfloat16
"""

import torch
import torch.distributed as dist
from common import arguments, build_model, measure, row_of, single_thread
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--reduce_dtype", choices=["float32", "bfloat16"], default="bfloat16")
    parser.add_argument(
        "--reshard",
        choices=["default", "always", "never"],
        default="default",
        help="FSDP2's own default frees layers after forward but keeps the root (embedding, head); 'never' is ZeRO-2",
    )
    options = parser.parse_args()
    single_thread()
    dist.init_process_group("gloo")
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))

    model = build_model()
    if options.gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    policy = MixedPrecisionPolicy()
    options.notes = {"reshard": options.reshard}
    if options.dtype == "bfloat16":
        policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=getattr(torch, options.reduce_dtype))
        options.notes["reduce_dtype"] = options.reduce_dtype
    reshard = {"default": None, "always": True, "never": False}[options.reshard]
    settings = {"mesh": mesh, "mp_policy": policy, "reshard_after_forward": reshard}
    for layer in model.model.layers:
        fully_shard(layer, **settings)
    fully_shard(model, **settings)
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.0, fused=True)
    batch = row_of(dist.get_rank())

    def step() -> float:
        loss = model(**batch).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.item()

    measure("fsdp2", options, step)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
