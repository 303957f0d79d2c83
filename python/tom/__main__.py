"""`python -m tom` names the commands."""

from __future__ import annotations

import importlib.metadata

print(f"""\
tom {importlib.metadata.version("tom-rl")}

python -m tom.train     train TOM, PMAC, MBPO or plain SAC on a task
python -m tom.compare   draw and tabulate the returns of several runs
python -m tom.offline   weights of a fixed dataset for one policy

Each explains itself with --help.""")
