"""Who consumes each queue of a host, looked at all the while until the file END is there."""

import json
import re
from collections import Counter

# Where the application may write, and root removes.
END = "/var/lib/drumline/load-end"
# Seconds between two looks at the workers; of a second without one at least one look tells.
LOOK = 0.4
WATCH = f"""
import json, os, subprocess, time
looks = []
while not os.path.exists("{END}"):
    at = time.time()
    shown = subprocess.run(
        ["systemctl", "show", "--property=Id,ActiveState", "drumline-worker@*"], capture_output=True, text=True
    ).stdout
    looks.append([at, shown])
    time.sleep(max(0, at + {LOOK} - time.time()))
print(json.dumps(looks))
"""


def looks(printed: str) -> list[tuple[float, Counter[str]]]:
    """The moments of what WATCH printed, each with the number of active workers by queue."""
    found = []
    for at, shown in json.loads(printed):
        active = "".join(block for block in shown.split("\n\n") if "ActiveState=active" in block)
        found.append((at, Counter(re.findall(r"Id=drumline-worker@(\w+)-\d+\.service", active))))
    return found
