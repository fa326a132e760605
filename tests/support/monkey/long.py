"""`python -m tests.support.monkey.long SEED COUNT FOLDER`: many keys in a process of their own; prints where they led as JSON."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from tests.support.house import caller_environment
from tests.support.monkey.house import monkey_house
from tests.support.monkey.running import press_all


def main(seed: int, count: int, folder: Path) -> None:
    with monkey_house(folder, caller_environment(folder)) as house:
        troop = asyncio.run(press_all(house, seed, count))
    said = {"visited": troop.visited, "dialogs": troop.dialogs, "destroyed": len(troop.witness.sent)}
    print(json.dumps(said))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
