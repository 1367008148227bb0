"""Wait for all tasks of an array at once (program 3.1 of the older tutorial)."""

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
    template.outputPath = ":" + DRMAA.JobTemplate.WORKING_DIRECTORY + "/synchronize.out." + DRMAA.JobTemplate.PARAMETRIC_INDEX

    jobs = session.runBulkJobs(template, 1, 30, 2)
    print("Your tasks have been submitted with ids " + str(jobs))

    session.synchronize(jobs, DRMAA.Session.TIMEOUT_WAIT_FOREVER, True)
    print("All of them have finished")

    session.deleteJobTemplate(template)
    session.exit()


if __name__ == "__main__":
    main()
