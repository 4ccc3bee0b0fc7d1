"""python -m etio"""

import sys

from etio.cli import main

sys.exit(main())
