"""Evaluation: suites of problems with exact scores, run as jobs, and the curves they give."""
