"""Memory stays bounded whatever the input's size."""

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from toys import World, expr, first_columns, numbers, stage
from octans.ir.physical import SqlStep

world = World(Path({base!r}))
first = stage(numbers({rows}), batch=1024)
root = stage(SqlStep(first, first_columns(), expr('"y" % 3 <> 0', "y")), name="z", batch=512)
rows = sum(batch.num_rows for batch in world.run(root).batches())
assert rows == {rows} - ({rows} + 2) // 3, rows
for line in open("/proc/self/status"):
    if line.startswith("VmHWM:"):
        print(line.split()[1])
"""


def peak_kib(base, rows):
    program = PROGRAM.format(tests=str(Path(__file__).parent), base=str(base), rows=rows)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    return int(done.stdout)


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_sixty_times_the_rows_take_no_more_memory(tmp_path):
    small, large = peak_kib(tmp_path, 200_000), peak_kib(tmp_path, 12_000_000)
    assert large < 1.25 * small
