"""Ask what is behind the session (program 6 of the older tutorial)."""

import DRMAA


def main():
    session = DRMAA.Session()
    print("Possible contacts: " + session.getContact())
    print("Possible systems: " + str(session.getDRMSInfo()))
    print("Possible implementations: " + str(session.getDRMAAImplementation()))

    session.init()
    print("Contact: " + session.getContact())
    print("System: " + str(session.getDRMSInfo()))
    print("Implementation: " + str(session.getDRMAAImplementation()))
    print("Version " + str(session.getVersion()))
    session.exit()


if __name__ == "__main__":
    main()
