"""Wait for all tasks of an array at once, and be done with them (program 3.1)."""

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

        session.synchronize(jobs, drmaa.Session.TIMEOUT_WAIT_FOREVER, True)
        print("All of them have finished")
        session.deleteJobTemplate(template)


if __name__ == "__main__":
    main()
