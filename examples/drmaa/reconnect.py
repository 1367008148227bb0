"""Leave a session and come back to it by its contact; the job that ended meanwhile is still there (program 1.1)."""

import os

import drmaa


def main():
    session = drmaa.Session()
    session.initialize()
    contact = session.contact
    print(f"A session was started: {contact}")
    template = session.createJobTemplate()
    template.remoteCommand = "/bin/sh"
    template.args = ["-c", "exit 7"]
    template.workingDirectory = os.getcwd()
    job = session.runJob(template)
    session.exit()
    print("Left the session; the job goes on")

    session.initialize(contact)
    print("The session was taken up again")
    info = session.wait(job, drmaa.Session.TIMEOUT_WAIT_FOREVER)
    print(f"Job {info.jobId} exited with {info.exitStatus}")
    session.exit()


if __name__ == "__main__":
    main()
