"""The program nbd-bench as a module, for what the other benchmarks have in common with it."""
import importlib.machinery
import sys
from pathlib import Path

sys.dont_write_bytecode = True
importlib.machinery.SourceFileLoader(__name__, str(Path(__file__).resolve().parent / 'nbd-bench')).exec_module(
    sys.modules[__name__])
