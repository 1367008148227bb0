"""Begin a session and leave it (program 1 of the tutorial)."""

import drmaa


def main():
    with drmaa.Session():
        print("A session was started successfully")


if __name__ == "__main__":
    main()
