"""A processor for which numpy was not built is told in one line, by whatever command meets it."""

import os
import subprocess
import sys
from pathlib import Path

SAYS = "NumPy was built with baseline optimizations: \\n(X86_V2) but your machine doesn't support:\\n(X86_V2)."


def test_one_line_and_status_2(tmp_path):
    (tmp_path / "numpy.py").write_text(f'raise RuntimeError("{SAYS}")\n')
    root = Path(__file__).parent.parent
    done = subprocess.run([sys.executable, "-c", "import sys; from etio.cli import main; sys.exit(main(['list']))"],
                          env={**os.environ, "PYTHONPATH": f"{tmp_path}:{root}"}, capture_output=True, text=True,
                          check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("etio: this processor is too old for numpy (NumPy was built with")
    assert "(X86_V2)" in done.stderr
    assert done.stderr.count("\n") == 1
