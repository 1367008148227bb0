"""How each vendor's own DRMAA library differs from the others, as programs came to rely on it. A table, nothing else."""

from __future__ import annotations

from typing import NamedTuple


class Vendor(NamedTuple):
    """The manners of one scheduler's library."""

    prefix: str  # what drmsInfo begins with
    versioned: bool = True  # the version follows; programs compare some names with ==
    library: str = ""  # a word that programs look for in drmaaImplementation
    nonzero_done: bool = False  # a command that ran is done, whatever its exit code or signal
    home: bool = True  # an unset working directory is home; else the directory of submission
    id_words: tuple[str, ...] = ()  # in stream paths, they stand for the job's id
    index_words: tuple[str, ...] = ()  # and for the task's index
    name_words: tuple[str, ...] = ()  # and for the job's name
    no_mail: tuple[str, ...] = ()  # native options that suppress mail
    shared_files: bool = False  # jobs see the same files under the same names, on this very host


_VENDORS = {
    "local": Vendor("local", shared_files=True),
    "gridengine": Vendor(
        "SGE",
        nonzero_done=True,
        id_words=("$JOB_ID",),
        index_words=("$TASK_ID", "$SGE_TASK_ID"),
        name_words=("$JOB_NAME",),
        no_mail=("-m", "n"),
    ),
    "slurm": Vendor(
        "SLURM", home=False, id_words=("%A", "%j"), index_words=("%a",), name_words=("%x",), no_mail=("--mail-type=NONE",)
    ),
    "lsf": Vendor("IBM Spectrum LSF", id_words=("%J",), index_words=("%I",)),
    "pbs": Vendor("PBS Professional", versioned=False, library="pbspro-drmaa", no_mail=("-m", "n")),
    "torque": Vendor("Torque", versioned=False, library="pbs-drmaa", no_mail=("-m", "n")),
    "htcondor": Vendor("Condor"),
    "oar": Vendor("OAR"),
}
_ALIASES = {"sge": "gridengine", "grid-engine": "gridengine", "pbspro": "pbs", "openpbs": "pbs", "condor": "htcondor"}


def vendor_of(scheduler: str) -> Vendor:
    """The manners of a scheduler; for one that no library was written for: its name, and the specification's rules."""
    return _VENDORS.get(_ALIASES.get(scheduler, scheduler)) or Vendor(scheduler)


def implementation_of(scheduler: str, shown: str | None = None) -> str:
    """What drmaaImplementation says: ``shown`` (drmsInfo's text), the words that programs look for, jobyard's release."""
    from jobyard import __version__

    vendor = vendor_of(scheduler)
    library = f", as {vendor.library}" if vendor.library else ""
    return f"{vendor.prefix if shown is None else shown} (jobyard {__version__}{library})"
