"""Submit a job, and look at its state until it has ended (program 5)."""

import os
import time

import drmaa

MEANINGS = {
    drmaa.JobState.UNDETERMINED: "its state cannot be determined",
    drmaa.JobState.QUEUED_ACTIVE: "it is queued and active",
    drmaa.JobState.SYSTEM_ON_HOLD: "it is queued, in system hold",
    drmaa.JobState.USER_ON_HOLD: "it is queued, in user hold",
    drmaa.JobState.USER_SYSTEM_ON_HOLD: "it is queued, in user and system hold",
    drmaa.JobState.RUNNING: "it is running",
    drmaa.JobState.SYSTEM_SUSPENDED: "it is suspended by the system",
    drmaa.JobState.USER_SUSPENDED: "it is suspended by its user",
    drmaa.JobState.USER_SYSTEM_SUSPENDED: "it is suspended by both",
    drmaa.JobState.DONE: "it finished normally",
    drmaa.JobState.FAILED: "it finished, but failed",
}


def main():
    with drmaa.Session() as session:
        template = session.createJobTemplate()
        template.remoteCommand = os.path.join(os.path.dirname(os.path.abspath(__file__)), "sleeper.sh")
        template.args = ["42", "Simon says:"]
        template.workingDirectory = os.getcwd()
        template.joinFiles = True

        job = session.runJob(template)
        print(f"Your job has been submitted with id {job}")

        state = ""
        while state not in (drmaa.JobState.DONE, drmaa.JobState.FAILED):
            state = session.jobStatus(job)
            print(f"Job {job}: {MEANINGS[state]}")
            time.sleep(0.25)
        session.deleteJobTemplate(template)


if __name__ == "__main__":
    main()
