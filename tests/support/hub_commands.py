"""Commands that talk to a Hub, run one after the other in one process."""

from __future__ import annotations

# Several commands in one process, since most of a command's seconds go into importing torch.
COMMANDS = """
import contextlib, io, json, sys
from tamtctl.cli import app as cli

for arguments in json.loads(sys.argv[1]):
    out, err, sys.argv = io.StringIO(), io.StringIO(), ["tamtctl", *arguments]
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            cli.main()
        except SystemExit as ended:
            code = ended.code
    print(json.dumps([code, out.getvalue(), err.getvalue()]))
"""
