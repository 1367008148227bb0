"""Submit a job, then terminate it (program 4)."""

import os

import drmaa


def main():
    with drmaa.Session() as session:
        template = session.createJobTemplate()
        template.remoteCommand = os.path.join(os.path.dirname(os.path.abspath(__file__)), "sleeper.sh")
        template.args = ["42", "Simon says:"]
        template.workingDirectory = os.getcwd()
        template.joinFiles = True
        template.jobEnvironment = {"SLEEP": "600"}

        job = session.runJob(template)
        print(f"Your job has been submitted with id {job}")

        # There are SUSPEND, RESUME, HOLD, RELEASE and TERMINATE.
        session.control(job, drmaa.JobControlAction.TERMINATE)
        info = session.wait(job, drmaa.Session.TIMEOUT_WAIT_FOREVER)
        print(f"Job {info.jobId} was aborted: {info.wasAborted}")
        session.deleteJobTemplate(template)


if __name__ == "__main__":
    main()
