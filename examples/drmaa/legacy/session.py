"""Begin a session and leave it (program 1 of the older tutorial)."""

import DRMAA


def main():
    session = DRMAA.Session()
    print("A session object was created")
    session.init()
    print("A session was started successfully")
    session.exit()


if __name__ == "__main__":
    main()
