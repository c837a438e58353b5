import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "debias"))  # for the module `planted`
sys.path.append(str(Path(__file__).parents[1]))  # for the module `tiny_models`
