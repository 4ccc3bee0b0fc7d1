"""A GPU has a slower PCIe link than it could have."""

from rca.gpus import gpu_with_users
from rca.spec import CauseSpec, Check, Table

_SEEN = (Check("gpu_pcie_link_generation", "<=", 16, "last"),
         Check("gpu_pcie_link_generation_ratio", "<=", 0.8, "last"),
         Check("gpu_pcie_link_width_ratio", "<=", 0.6, "last"),
         Check("gpu_pcie_replays_per_second", ">=", 0.05, "mean", 2.0))

CAUSE = CauseSpec(
    id="gpu_pcie_degraded",
    title="PCIe link of a GPU degraded",
    mechanism="The link between a GPU and its host lost lanes or runs at a lower speed, so everything copied to and "
              "from the GPU takes longer.",
    source="NVML, current and maximal PCIe link generation and width; NVIDIA DCGM PCIe health",
    alerts=("GpuPcieDegraded",),
    tables=(
        Table(label="gpu",
              needs=((Check("gpu_utilization_ratio", ">=", 0.02, "peak"),),
                     (Check("gpu_pcie_link_width_ratio", "<=", 0.6, "last"),)),
              supports=(Check("gpu_pcie_link_width", "<=", 64, "last"), *_SEEN)),
        Table(label="gpu",
              needs=((Check("gpu_utilization_ratio", ">=", 0.3, "peak"),),
                     (Check("gpu_pcie_link_generation_ratio", "<=", 0.8, "last"),)),
              supports=(Check("gpu_pcie_link_width", "<=", 64, "last"), *_SEEN),
              refutes=(Check("gpu_pcie_link_width_ratio", "<=", 0.6, "last", why="it has lost lanes as well"),)),
    ),
    headlines=("GPU {entity} is attached by {gpu_pcie_link_width} PCIe lanes of generation {gpu_pcie_link_generation}",
               "GPU {entity} has a slower PCIe link than it could have"),
    summary=("GPU {entity} is at work {gpu_utilization_ratio:ref}, so its link should run at full speed.",
             "It uses {gpu_pcie_link_width_ratio} of the lanes that GPU and slot have {gpu_pcie_link_width_ratio:ref}.",
             "Its link runs at generation {gpu_pcie_link_generation} {gpu_pcie_link_generation:ref}, "
             "{gpu_pcie_link_generation_ratio} of what both ends can do {gpu_pcie_link_generation_ratio:ref}.",
             "Packets had to be sent again, {gpu_pcie_replays_per_second} {gpu_pcie_replays_per_second:seen}."),
    tell_apart="lspci -vv: LnkSta against LnkCap, under load; and whether the GPU keeps it in another slot",
    explains=("gpu_straggler",),
    hard=True,
    specific=2,
    blame=gpu_with_users,
    culprit_needed=False,
)
