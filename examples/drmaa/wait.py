"""Submit a job and wait for it (program 3)."""

import os

import drmaa


def main():
    with drmaa.Session() as session:
        template = session.createJobTemplate()
        template.remoteCommand = os.path.join(os.path.dirname(os.path.abspath(__file__)), "sleeper.sh")
        template.args = ["42", "Simon says:"]
        template.workingDirectory = os.getcwd()
        template.joinFiles = True

        job = session.runJob(template)
        print(f"Your job has been submitted with id {job}")

        info = session.wait(job, drmaa.Session.TIMEOUT_WAIT_FOREVER)
        print(f"Job {info.jobId} finished: exited {info.hasExited}, status {info.exitStatus}")
        session.deleteJobTemplate(template)


if __name__ == "__main__":
    main()
