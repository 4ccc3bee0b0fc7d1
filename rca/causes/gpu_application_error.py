"""A program made a mistake on the GPU."""

from rca.gpu_xids import xid
from rca.gpus import blame_program
from rca.spec import CauseSpec, Check, Table

CAUSE = CauseSpec(
    id="gpu_application_error",
    title="a program failed on the GPU",
    mechanism="A kernel of a program did something that is not allowed, such as using memory that is not its own; the "
              "driver stops the program, and the GPU is well.",
    source="NVIDIA Xid catalog (8, 13, 31, 32, 43, 45, 69)",
    alerts=("GpuProgramXid",),
    tables=(Table(
        label="gpu",
        needs=((xid("application"),),),
        refutes=(Check("gpu_ecc_uncorrected_per_second", ">=", 1e-6, "peak", why="the GPU had memory errors as well"),),
    ),),
    headlines=("{who} (pid {pid}) failed on GPU {entity}", "A program failed on GPU {entity}"),
    summary=("The driver stopped a program on GPU {entity}: {gpu_xid:told} {gpu_xid:ref}.",
             "{claim} {blame:ref}.",
             "This is a mistake of the program or of its input; it says nothing against the GPU unless other programs "
             "meet it there too."),
    tell_apart="whether the error follows the program to another GPU, or stays with the GPU",
    explains=("gpu_xid",),
    hard=True,
    specific=2,
    blame=blame_program,
    culprit_needed=False,
)
