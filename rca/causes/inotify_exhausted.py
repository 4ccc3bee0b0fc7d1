"""A user watches as many files as it may."""

from rca.exhausted import file_watcher
from rca.spec import CauseSpec, Check, Happened, Table

CAUSE = CauseSpec(
    id="inotify_exhausted",
    title="inotify limit used up",
    mechanism="The processes of a user have as many inotify watches or instances as it may; inotify_add_watch fails "
    "with ENOSPC, inotify_init with EMFILE, and programs say that the disk is full or too many files are open.",
    source="inotify(7): /proc/sys/fs/inotify/max_user_watches, max_user_instances",
    alerts=("InotifyExhausted",),
    tables=(Table(
        label="uid",
        needs=((Happened(("inotify_exhausted",)),),),
        supports=(Check("inotify_watches_used_ratio_max", ">=", 0.9, "last"),
                  Check("inotify_instances_used_ratio_max", ">=", 0.9, "last")),
    ),),
    headlines=("User id {entity} may watch no more files; {who} has the most",
               "User id {entity} may watch no more files"),
    summary=("{claim} {blame:ref}.",
             "Whoever of that user wants one more is told that no space is left on the device, or that too many files "
             "are open; neither is so.",
             ),
    tell_apart="grep -c inotify /proc/*/fdinfo/* against fs.inotify.max_user_watches",
    explains=(),
    hard=True,
    specific=3,
    blame=file_watcher,
    culprit_needed=False,
)
