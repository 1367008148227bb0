"""Submit a job, and look at its state (program 5 of the older tutorial)."""

import os
import time

import DRMAA

MEANINGS = {
    DRMAA.Session.UNDETERMINED: "its state cannot be determined",
    DRMAA.Session.QUEUED_ACTIVE: "it is queued and active",
    DRMAA.Session.SYSTEM_ON_HOLD: "it is queued, in system hold",
    DRMAA.Session.USER_ON_HOLD: "it is queued, in user hold",
    DRMAA.Session.USER_SYSTEM_ON_HOLD: "it is queued, in user and system hold",
    DRMAA.Session.RUNNING: "it is running",
    DRMAA.Session.SYSTEM_SUSPENDED: "it is suspended by the system",
    DRMAA.Session.USER_SUSPENDED: "it is suspended by its user",
    DRMAA.Session.USER_SYSTEM_SUSPENDED: "it is suspended by both",
    DRMAA.Session.DONE: "it finished normally",
    DRMAA.Session.FAILED: "it finished, but failed",
}


def main():
    session = DRMAA.Session()
    session.init()
    template = session.createJobTemplate()
    template.remoteCommand = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "sleeper.sh")
    template.args = ["42", "Simon says:"]
    template.workingDirectory = os.getcwd()
    template.joinFiles = True
    template.outputPath = ":" + DRMAA.JobTemplate.WORKING_DIRECTORY + "/status.out"

    job = session.runJob(template)
    print("Your job has been submitted with id " + job)

    state = ""
    while state not in (DRMAA.Session.DONE, DRMAA.Session.FAILED):
        state = session.getJobProgramStatus(job)
        print("Job " + job + ": " + MEANINGS[state])
        time.sleep(0.25)

    session.deleteJobTemplate(template)
    session.exit()


if __name__ == "__main__":
    main()
