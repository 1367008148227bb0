"""The file that run.sh starts. It imports the modules beside it: their compiled form is kept, where its own would not be."""

import sys

sys.path.insert(0, sys.argv[0].rpartition("/")[0] or ".")
if sys.argv[1] == "--launch":
    __import__("node.launch").launch.main()
else:
    __import__("node.shepherd").shepherd.main()
