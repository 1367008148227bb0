"""Submit a job and leave; it goes on by itself (program 2)."""

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
        session.deleteJobTemplate(template)


if __name__ == "__main__":
    main()
