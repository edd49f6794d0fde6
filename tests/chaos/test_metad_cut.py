import pathlib
import subprocess
import sys

PROGRAM = pathlib.Path(__file__).with_name("metad_cut.py")
SECONDS_EACH = 60  # at the most, on a busy machine


def test_nobody_notices_that_its_leader_is_cut_off(tmp_path, request):
    metad_tries = request.config.getoption("--metad-tries", 3)
    done = subprocess.run([sys.executable, PROGRAM, str(metad_tries), tmp_path], capture_output=True, text=True, check=False,
                          timeout=SECONDS_EACH * (metad_tries + 1))
    assert done.returncode == 0, done.stderr[-3000:]
