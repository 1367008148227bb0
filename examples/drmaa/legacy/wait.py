"""Submit a job and wait for it (program 3 of the older tutorial)."""

import os

import DRMAA


def main():
    session = DRMAA.Session()
    session.init()
    template = session.createJobTemplate()
    template.remoteCommand = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "sleeper.sh")
    template.args = ["42", "Simon says:"]
    template.workingDirectory = os.getcwd()
    template.joinFiles = True
    template.outputPath = ":" + DRMAA.JobTemplate.WORKING_DIRECTORY + "/wait.out"

    job = session.runJob(template)
    print("Your job has been submitted with id " + job)

    ending = session.wait(job, DRMAA.Session.TIMEOUT_WAIT_FOREVER)
    print("Job: " + ending.getJobId() + " finished with code " + str(ending.getExitStatus()))

    session.deleteJobTemplate(template)
    session.exit()


if __name__ == "__main__":
    main()
