"""Leave a session and come back to it by its contact (program 1.1 of the older tutorial)."""

import DRMAA


def main():
    session = DRMAA.Session()
    session.init()
    print("A session was started successfully")
    contact = session.getContact()
    print("getContact() returns: " + contact)
    session.exit()
    print("Left the session")

    session.init(contact)
    print("The session was taken up again")
    session.exit()


if __name__ == "__main__":
    main()
