"""Runs the tests in a real browser: python scripts/browser [names of cases]."""

import sys
import unittest

if __name__ == "__main__":
    arguments = ["browser", *sys.argv[1:]] if sys.argv[1:] else ["browser", "discover", "-s", sys.path[0], "-t", sys.path[0]]
    unittest.main(module=None, argv=arguments, verbosity=2)
