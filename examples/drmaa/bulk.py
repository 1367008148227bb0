"""Submit an array job of 15 tasks, numbered 1, 3, 5 to 29 (program 2.1)."""

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
        print(f"Your {len(jobs)} tasks have been submitted with ids {jobs}")
        session.deleteJobTemplate(template)


if __name__ == "__main__":
    main()
