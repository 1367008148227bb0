"""Wait for all tasks of an array, then ask how each one ended (program 3.2)."""

import os

import drmaa


def main():
    with drmaa.Session() as session:
        template = session.createJobTemplate()
        template.remoteCommand = os.path.join(os.path.dirname(os.path.abspath(__file__)), "sleeper.sh")
        template.args = ["42", "Simon says:"]
        template.workingDirectory = os.getcwd()
        template.joinFiles = True

        jobs = session.runBulkJobs(template, 1, 30, 2)
        print(f"Your {len(jobs)} tasks have been submitted")

        session.synchronize(jobs, drmaa.Session.TIMEOUT_WAIT_FOREVER, False)
        for job in jobs:
            info = session.wait(job, drmaa.Session.TIMEOUT_WAIT_FOREVER)
            print(f"Job {info.jobId} finished: exited {info.hasExited}, cpu {info.resourceUsage['cpu']} s")
        session.deleteJobTemplate(template)


if __name__ == "__main__":
    main()
