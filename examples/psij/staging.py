"""Files in, files out, and nothing left behind."""

from pathlib import Path

from psij import Job, JobExecutor, JobSpec
from psij.staging import StageIn, StageOut, StageOutFlags, StagingMode

Path("words.txt").write_text("pear\napple\n")
Path("scratch").mkdir(exist_ok=True)

spec = JobSpec(
    "/bin/sh",
    ["-c", "sort words > sorted; echo done >&2"],
    directory="scratch",
    stderr_path="log",
    stage_in={StageIn("words.txt", "words", StagingMode.LINK)},
    stage_out={
        StageOut("sorted", "sorted.txt"),
        StageOut("log", "failure.log", StageOutFlags.ON_ERROR | StageOutFlags.IF_PRESENT),
    },
    cleanup={"words", "sorted", "log"},
)
with JobExecutor.get_instance("local") as executor:
    job = Job(spec)
    executor.submit(job)
    print(job.wait().state)
print(Path("sorted.txt").read_text(), end="")
print("left in scratch:", list(Path("scratch").iterdir()))
