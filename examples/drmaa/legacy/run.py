"""Submit a job and leave; it goes on by itself (program 2 of the older tutorial)."""

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
    template.outputPath = ":" + DRMAA.JobTemplate.WORKING_DIRECTORY + "/run.out"

    job = session.runJob(template)
    print("Your job has been submitted with id " + job)

    session.deleteJobTemplate(template)
    session.exit()


if __name__ == "__main__":
    main()
