"""Programs use memory, or a GPU, of another NUMA node than the one they run on."""

from rca.gpus import blame_holder
from rca.numa import away_from_memory, blame_runaway
from rca.scene import Scene
from rca.spec import Blame, CauseSpec, Check, Table


def _blame(scene: Scene, entity: str) -> Blame | None:
    return blame_holder(scene, entity) if entity else blame_runaway(scene, entity)


CAUSE = CauseSpec(
    id="numa_remote_memory",
    title="memory or GPU on another NUMA node",
    mechanism="A program runs on one NUMA node while its memory or its GPU belongs to another, so every access goes "
              "over the link between them.",
    source="kernel docs admin-guide/mm/numa_memory_policy, admin-guide/numastat; PyTorch tuning guide (NUMA)",
    alerts=("NumaRemoteMemory",),
    tables=(
        Table(
            needs=((away_from_memory,),),
            supports=(Check("numa_other_node_per_second", ">=", 1000.0, "mean", 2.0),
                      Check("numa_miss_per_second", ">=", 1000.0, "mean", 2.0),
                      Check("numa_remote_memory_ratio", ">=", 0.3),
                      Check("vm_numa_hint_faults_per_second", ">=", 1000.0, "mean", 2.0)),
            headlines=("{who} (pid {pid}) runs on another NUMA node than its memory",
                       "Programs run on another NUMA node than their memory"),
        ),
        Table(
            label="gpu",
            needs=((Check("gpu_processes_far", ">=", 1.0, "last"),),
                   (Check("gpu_utilization_ratio", ">=", 0.1, "peak"),)),
            supports=(Check("gpu_pcie_receive_bytes_per_second", ">=", 1e6, "mean"),
                      Check("numa_other_node_per_second", ">=", 1000.0, "mean", 2.0)),
            headlines=("{who} (pid {pid}) runs on another NUMA node than its GPU {entity}",
                       "What uses GPU {entity} runs on another NUMA node"),
        ),
    ),
    headlines=("Programs run on another NUMA node than what they use",),
    summary=("{claim} {blame:ref}.",
             "{gpu_processes_far} processes on GPU {entity} run on another node than its own {gpu_processes_far:ref}.",
             "Of the memory of the biggest processes {numa_remote_memory_ratio} lies away from where they run "
             "{numa_remote_memory_ratio:ref}.",
             "Tasks got {numa_other_node_per_second} from another node {numa_other_node_per_second:seen}.",
             "Of the pages wanted on a node {numa_miss_per_second} had to come from another "
             "{numa_miss_per_second:seen}."),
    tell_apart="numastat -p PID against the node of the CPUs it runs on",
    specific=2,
    blame=_blame,
    culprit_needed=False,
)
