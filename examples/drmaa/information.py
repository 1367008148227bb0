"""Ask what is behind the session (program 6)."""

import drmaa


def main():
    print(f"Possible contacts: {drmaa.Session.contact}")
    with drmaa.Session() as session:
        print(f"Contact: {session.contact}")
        print(f"System: {session.drmsInfo}")
        print(f"Implementation: {session.drmaaImplementation}")
        print(f"Version {session.version}")


if __name__ == "__main__":
    main()
