"""A GPU in MIG mode without an instance."""

from rca.culprits import gpu_itself
from rca.spec import CauseSpec, Check, Table

CAUSE = CauseSpec(
    id="gpu_mig_empty",
    title="GPU in MIG mode without instances",
    mechanism="MIG is switched on and no instance exists, so no program can use the GPU; instances are lost at each "
              "reset of the GPU and each restart.",
    source="NVIDIA MIG user guide (instances are not kept over a reset)",
    alerts=("GpuMigEmpty",),
    tables=(Table(
        label="gpu",
        needs=((Check("gpu_mig_instances", "<=", 0.5, "last"),),),
    ),),
    headlines=("GPU {entity} has no MIG instance: no program can use it",),
    summary=("MIG is on, and GPU {entity} has no instance {gpu_mig_instances:seen}.",
             "No program can use it until one is created or MIG is switched off."),
    tell_apart="nvidia-smi mig -lgi: which instances there are",
    hard=True,
    specific=2,
    blame=gpu_itself,
    culprit_needed=False,
)
